"""A small feature table and models of it, for tests that need no data."""

from __future__ import annotations

import numpy as np

from bandstand.frontends.librosa_features import FEATURE_NAMES
from bandstand_training.checkpoint import Checkpoint, CheckpointMetadata
from bandstand_training.feature_scaler import fit_scaler
from bandstand_training.fit import FitSettings
from bandstand_training.genre_network import GenreModel
from bandstand_training.table import FeatureTable

CLASSES = ("classical", "jazz", "metal")
QUICK = FitSettings(epochs=12, members=1, batch_size=32)


def small_table(rows_per_class: int = 40, seed: int = 0) -> FeatureTable:
    """Return rows of classes that overlap, all features positive."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), rows_per_class)
    centres = rng.normal(0.0, 0.3, (len(CLASSES), len(FEATURE_NAMES)))
    features = np.exp(centres[labels] + rng.normal(0.0, 0.5, (len(labels), len(FEATURE_NAMES))))
    clips = tuple(f"{CLASSES[k]}.{i:05d}.wav" for i, k in enumerate(labels))
    return FeatureTable(clips, FEATURE_NAMES, features, labels, CLASSES)


def small_checkpoint() -> Checkpoint:
    """Return an unfitted model of that table with its metadata."""
    table = small_table()
    scaler = fit_scaler(table.features, table.labels, table.feature_names)
    metadata = CheckpointMetadata(
        name="genre_features",
        labels=CLASSES,
        feature_names=FEATURE_NAMES,
        members=2,
        fitted_to="made-up rows",
        epochs=0,
        seed=0,
    )
    return Checkpoint(GenreModel(scaler, len(CLASSES), metadata.members).eval(), metadata)
