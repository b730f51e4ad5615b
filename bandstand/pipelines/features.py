"""The audio features of a recording."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from bandstand.frontends.librosa_features import FEATURE_NAMES, pool_features
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.resources import Resources
from bandstand.runners.base import Array
from bandstand_client.contract.declaration import NoOptions
from bandstand_client.contract.features import FeaturesAnswer, FeatureWindow

CARD = DEFAULT_MODEL
"""The card that defines the windows; its front end is `librosa_features`."""

_TEMPO = "tempo"


async def analyze_features(
    resources: Resources, audio: bytes, _options: NoOptions
) -> FeaturesAnswer:
    """Compute the features of one recording.

    Args:
        resources: prepares the recording.
        audio: encoded content.

    Raises:
        BandstandError: the refusals of `prepare`.
    """
    started = perf_counter()
    card = resources.catalogue.cards[CARD]
    prepared = (await resources.preparation.prepare(audio, (card,))).of(card)
    matrix = prepared.inputs[card.inputs[0].name]
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


def _named(row: Array) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))
