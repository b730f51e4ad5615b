"""The models there are: the cards that come with Bandstand, and what is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bandstand.errors import BandstandError, ModelNotFoundError
from bandstand.models.card import Card, load_card
from bandstand.models.installed import InstalledModel
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings

DRUM_MODEL = "annoteator_drum_cnn"
"""The card whose source the settings may override."""

_CARDS = Path(__file__).resolve().parents[1] / "cards"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model that could be installed, or is.

    A process makes one where it starts and hands it down. Nothing is remembered of the repository:
    what another process installs is seen at the next question.

    Attributes:
        cards: those that come with Bandstand, by name.
        repository: the installed versions; each has its own card.
    """

    cards: Mapping[str, Card]
    repository: ModelRepository

    @classmethod
    def from_settings(cls, settings: Settings) -> Catalogue:
        """Return the catalogue of Bandstand's cards and the repository of the settings.

        Raises:
            CardError: a file that comes with Bandstand is no card.
        """
        return cls(read_cards(settings), ModelRepository.from_settings(settings))

    def __contains__(self, name: str) -> bool:
        """Say whether a model of that name could be installed, or is."""
        return name in self.cards or self.repository.has(name)

    def __iter__(self) -> Iterator[str]:
        """Go through the names, sorted."""
        return iter(sorted({*self.cards, *self.repository.names()}))

    def check(self, name: str) -> None:
        """Refuse a name that no model has.

        Raises:
            ModelNotFoundError: the message lists those there are.
        """
        if name not in self:
            raise ModelNotFoundError(
                f"no model is called {name!r}; there are: {', '.join(self) or 'none'}"
            )

    def installable(self, name: str) -> Card:
        """Return the card that a model can be installed by.

        Raises:
            ModelNotFoundError: no card of that name comes with Bandstand.
        """
        if name in self.cards:
            return self.cards[name]
        self.check(name)
        raise ModelNotFoundError(
            f"no card of {name!r} comes with Bandstand; there are: {', '.join(self.cards)}"
        )

    def serving(self, name: str) -> InstalledModel:
        """Return the version to serve: the pinned one, else the newest.

        Raises:
            ModelNotFoundError: no model has that name.
            ModelNotInstalledError: it is not there; the message says which command installs it.
            ModelMismatchError: what is pinned is no version.
            RepositoryError: a folder or the pin cannot be read.
        """
        self.check(name)
        return self.repository.serving(name)

    def card(self, name: str) -> Card:
        """Return the card of the version to serve; of a model that is not installed, Bandstand's.

        Raises:
            ModelNotFoundError: no model has that name.
            ModelNotInstalledError: the pinned version is gone.
            ModelMismatchError: the version, or the pin, is broken.
            RepositoryError: a folder or a file cannot be read.
        """
        self.check(name)
        if name in self.cards and not self.repository.versions(name):
            return self.cards[name]
        return self.repository.serving(name).card()

    def usable(self) -> dict[str, Card]:
        """Return the installed models that can be served, with their cards, by name.

        One that is broken is left out; `card` says what is wrong with it.
        """
        found = {}
        for name in self.repository.names():
            try:
                found[name] = self.repository.serving(name).card()
            except BandstandError:
                continue
        return found


def read_cards(settings: Settings) -> dict[str, Card]:
    """Return the cards that come with Bandstand, by name, with the sources that the settings say.

    Raises:
        CardError: a file is no card.
    """
    cards = {path.stem: load_card(path) for path in sorted(_CARDS.glob("*.yaml"))}
    if DRUM_MODEL in cards:
        cards[DRUM_MODEL] = _with_source_of_settings(cards[DRUM_MODEL], settings)
    return cards


def _with_source_of_settings(card: Card, settings: Settings) -> Card:
    changes: dict[str, str | None] = {}
    if settings.drum_model_uri is not None:
        # What the card says of its own source does not hold for another one.
        changes = {"uri": settings.drum_model_uri, "revision": None, "sha256": None}
    if settings.drum_model_version is not None:
        changes["revision"] = settings.drum_model_version
    if settings.drum_model_sha256 is not None:
        changes["sha256"] = settings.drum_model_sha256
    return card.model_copy(update={"source": card.source.model_copy(update=changes)})
