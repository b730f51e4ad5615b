"""The architecture `hubert`: transformers' HuBERT with a classification head."""

from __future__ import annotations

from pathlib import Path

from bandstand.models.card import Card
from bandstand_exporters.transformers_classifier import TransformersClassifier, open_standardized


def open_source(card: Card, checkpoint: Path) -> TransformersClassifier:
    """Open a checkpoint folder; see `open_standardized`, which raises."""
    from transformers import HubertForSequenceClassification

    return open_standardized(card, checkpoint, HubertForSequenceClassification)
