"""The audio features of a recording."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from bandstand.frontends.librosa_features import FEATURE_NAMES, pool_features
from bandstand.models.card import Card
from bandstand.pipelines.answers import FeaturesAnswer, FeatureWindow
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.base import Array

_TEMPO = "tempo"


def _named(row: Array) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))


class FeaturesPipeline:
    """Audio bytes to `FeaturesAnswer`.

    Args:
        preparation: what decodes and computes.
        card: a card whose front end is `librosa_features`; it says how recordings are cut.
    """

    def __init__(self, preparation: Preparation, card: Card) -> None:
        self._preparation = preparation
        self._card = card

    async def analyze(self, audio: bytes) -> FeaturesAnswer:
        """Compute the features of one recording.

        Raises:
            BandstandError: the refusals of `prepare`.
        """
        started = perf_counter()
        prepared = await self._preparation.prepare(audio, self._card)
        matrix = prepared.inputs[self._card.inputs[0].name]
        features = _named(pool_features(matrix, prepared.durations_seconds))
        windows = tuple(
            FeatureWindow(start_seconds=start, duration_seconds=duration, features=_named(row))
            for start, duration, row in zip(
                prepared.starts_seconds.tolist(),
                np.round(prepared.durations_seconds, 6).tolist(),
                matrix,
                strict=True,
            )
        )
        total = (perf_counter() - started) * 1e3
        return FeaturesAnswer(
            tempo_bpm=features[_TEMPO],
            features=features,
            windows=windows,
            audio=prepared.audio,
            timings_ms={**prepared.timings_ms, "total": total},
        )
