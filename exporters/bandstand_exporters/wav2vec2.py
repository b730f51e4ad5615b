"""The architecture `wav2vec2`: transformers' Wav2Vec2 with a classification head."""

from __future__ import annotations

from pathlib import Path

from bandstand.models.card import Card
from bandstand_exporters.transformers_classifier import TransformersClassifier, open_standardized


def open_source(card: Card, checkpoint: Path) -> TransformersClassifier:
    """Open a checkpoint folder; see `open_standardized`, which raises."""
    from transformers import Wav2Vec2ForSequenceClassification

    return open_standardized(card, checkpoint, Wav2Vec2ForSequenceClassification)
