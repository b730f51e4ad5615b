"""Checkpoint folders as transformers writes them: seeded random weights, real or small sizes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from bandstand.models.card import Card
from bandstand.models.source import source_sha256
from harness.cards import get_card

GENRES = (
    "disco",
    "metal",
    "reggae",
    "blues",
    "rock",
    "classical",
    "jazz",
    "hiphop",
    "country",
    "pop",
)
"""In an order that differs from that of any card."""
SMALL_WAVES: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": [24] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 32,
}
SMALL_AST: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
_INSTRUMENTS = get_card("instruments_ast").instruments
TAGS = (*_INSTRUMENTS, *(f"Sound {number}" for number in range(527 - len(_INSTRUMENTS))))
"""As many as AudioSet's classes, its instruments among them."""


def write_wav2vec2(folder: Path, labels: tuple[str, ...] = GENRES, **sizes: Any) -> Path:
    """Write a Wav2Vec2 classifier; sizes that are not given are those of the base model."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    config = Wav2Vec2Config(**sizes, **_numbered(labels))
    return _write(
        folder, Wav2Vec2ForSequenceClassification, config, Wav2Vec2FeatureExtractor(), waves=True
    )


def write_hubert(folder: Path, labels: tuple[str, ...] = GENRES, **sizes: Any) -> Path:
    """Write a HuBERT classifier; sizes that are not given are those of the base model."""
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    config = HubertConfig(**sizes, **_numbered(labels))
    return _write(
        folder, HubertForSequenceClassification, config, Wav2Vec2FeatureExtractor(), waves=True
    )


def write_ast(
    folder: Path, labels: tuple[str, ...] = TAGS, *, max_length: int = 1024, **sizes: Any
) -> Path:
    """Write an AST classifier of so many frames; other sizes likewise."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        extractor = ASTFeatureExtractor(max_length=max_length)
    config = ASTConfig(**sizes, max_length=max_length, **_numbered(labels))
    return _write(folder, ASTForAudioClassification, config, extractor, waves=False)


def _numbered(labels: tuple[str, ...]) -> dict[str, Any]:
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def _write(folder: Path, model_class: Any, config: Any, extractor: Any, *, waves: bool) -> Path:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    model = model_class(config)
    for name, parameter in model.named_parameters():
        # With the default weights all logits are almost equal, which would hide errors.
        if parameter.ndim > 1 and name.startswith(("classifier", "projector")):
            torch.nn.init.normal_(parameter, std=0.3)
        elif waves and name.endswith("bias"):
            # Trained models do not have the default zeros: with them the activations of silence are
            # 0, and a layer norm amplifies the rounding errors.
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def local(card: Card, folder: Path) -> Card:
    """Return the card with that folder, as it is now, for its source."""
    source = card.source.model_copy(update={"uri": f"file:{folder}"})
    verified = source.model_copy(update={"sha256": source_sha256(source, folder)})
    return card.model_copy(update={"source": verified})


def seconds_of(card: Card, seconds: float) -> Card:
    """Return the card with shorter windows, which a small network is faster for."""
    window = {**card.window.model_dump(), "seconds": seconds, "hop_seconds": seconds}
    samples = round(seconds * card.window.sample_rate)
    tensor = {**card.inputs[0].model_dump(), "shape": (samples,)}
    return Card.model_validate(card.model_dump() | {"window": window, "inputs": [tensor]})
