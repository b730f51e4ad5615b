"""The instruments that play in a recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import perf_counter

from bandstand.errors import (
    BandstandError,
    ModelMismatchError,
    ModelNotInstalledError,
    UnusableRequestError,
)
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import install_command
from bandstand.pipelines.answers import InstrumentsAnswer, InstrumentScore
from bandstand.pipelines.classify import Heard, Model, card_of, hear, served_model
from bandstand.pipelines.prepare import Preparation

DEFAULT_THRESHOLD = 0.3

_PREFERRED = ("instruments_ast", "tags_jamendo")  # the one that tells most instruments first


class InstrumentsPipeline:
    """Audio bytes to `InstrumentsAnswer`.

    Args:
        preparation: what decodes and cuts.
        models: the models that can answer, by name.
        catalogue: all models, to find those with instruments, and to say why one cannot answer.
    """

    def __init__(
        self, preparation: Preparation, models: Mapping[str, Model], catalogue: Catalogue
    ) -> None:
        self._preparation = preparation
        self._models = models
        self._catalogue = catalogue

    async def detect(
        self, audio: bytes, *, model: str | None = None, threshold: float = DEFAULT_THRESHOLD
    ) -> InstrumentsAnswer:
        """Name the instruments of one recording.

        Args:
            audio: encoded content.
            model: the name of a model of instruments; None: the best that is served.
            threshold: least probability (0 to 1) of an instrument that is listed.

        Raises:
            ModelNotFoundError, ModelNotInstalledError, UnusableRequestError: the model.
            ModelMismatchError: it is broken, or has none of its card's instruments.
            BandstandError: the refusals of `prepare`.
        """
        started = perf_counter()
        if model:
            heard = await self._ask(self._with_instruments(model), audio, started)
        else:
            heard = await self._ask_best(audio, started)
        return _answer(heard, threshold)

    async def _ask(self, name: str, audio: bytes, started: float) -> Heard:
        return await hear(self._preparation, served_model(self._models, name), audio, started)

    async def _ask_best(self, audio: bytes, started: float) -> Heard:
        # Whether a model is served, a remote one says when it is asked, and no list before that.
        for name in self._by_preference():
            with suppress(ModelNotInstalledError):
                return await self._ask(name, audio, started)
        raise ModelNotInstalledError(
            "no model that tells instruments is served here; "
            f"`{install_command(_PREFERRED[0])}` installs one"
        )

    def _with_instruments(self, name: str) -> str:
        card = card_of(self._models, self._catalogue, name)
        if not card.instruments:
            raise UnusableRequestError(f"{card.name} answers {card.task}, and tells no instruments")
        return card.name

    def _by_preference(self) -> Iterator[str]:
        yield from _PREFERRED
        for name in self._catalogue:
            if name not in _PREFERRED and self._tells_instruments(name):
                yield name

    def _tells_instruments(self, name: str) -> bool:
        try:
            return bool(card_of(self._models, self._catalogue, name).instruments)
        except BandstandError:  # a broken model is none to ask
            return False


def _answer(heard: Heard, threshold: float) -> InstrumentsAnswer:
    known = [i for i, label in enumerate(heard.card.labels) if label in heard.card.instruments]
    if not known:
        raise ModelMismatchError(
            f"{heard.card.name} version {heard.version} has none of its card's instruments"
        )
    ranked = sorted(known, key=lambda i: -heard.scores[i])
    listed = tuple(_score(heard, i) for i in ranked if heard.scores[i] >= threshold)
    sounds = {score.sound for score in listed}
    return InstrumentsAnswer(
        instruments=listed,
        primary=listed[0].instrument if listed else None,
        has_acoustic="acoustic" in sounds,
        has_electronic="electronic" in sounds,
        threshold=threshold,
        all_scores={_spoken(heard.card.labels[i]): float(heard.scores[i]) for i in known},
        method=heard.card.name,
        members=heard.members,
        audio=heard.audio,
        timings_ms=heard.timings_ms(),
    )


def _score(heard: Heard, column: int) -> InstrumentScore:
    label = heard.card.labels[column]
    return InstrumentScore(
        instrument=_spoken(label),
        label=label,
        confidence=round(100 * float(heard.scores[column]), 4),
        raw_score=float(heard.raw[column]),
        sound=heard.card.instruments[label],
    )


def _spoken(label: str) -> str:
    """Return what people call it: MTG-Jamendo's tags say first what kind of tag they are."""
    return label.rpartition("---")[2]
