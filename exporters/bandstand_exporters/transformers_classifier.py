"""Base of the transformers' audio classifiers: waveforms to logits in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bandstand.errors import ModelMismatchError
from bandstand.frontends.parameters import StandardizeParameters
from bandstand.frontends.standardize import Standardize
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.source_model import Examples
from bandstand_exporters.torch_graph import write_graph
from bandstand_exporters.transformers_checkpoint import EXTRACTOR, labels_of, load_model, read_json


class Served(nn.Module):
    """Samples `(n, samples)` to the front end's result and logits `(n, labels)`."""

    def __init__(self, front_end: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.front_end = front_end
        self.model = model

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        features = self.front_end(samples)
        return features, self.model(features).logits


class TransformersClassifier:
    """An opened checkpoint.

    The reference that an export is compared with is transformers' own feature extractor in front of
    the model, not our front end.
    """

    def __init__(self, card: Card, model: Any, front_end: nn.Module, extractor: Any) -> None:
        if len(card.inputs) != 1 or len(card.outputs) != 1:
            raise ModelMismatchError(f"{card.name}: its architecture has one input and one output")
        self._card = card
        self._model = model
        self._front_end = front_end
        self._extractor = extractor
        self.labels = labels_of(model)
        self.framework = f"transformers {version('transformers')}, torch {torch.__version__}"

    def examples(self) -> Examples:
        """Return a window of every recording, and silence."""
        return example_windows(self._card, per_recording=1)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the logits with transformers."""
        (samples,) = inputs.values()
        features = self._extractor(
            list(samples), sampling_rate=self._card.window.sample_rate, return_tensors="np"
        )
        values = torch.from_numpy(np.asarray(features["input_values"], np.float32))
        with torch.inference_mode():
            logits = self._model(values).logits.numpy()
        return {self._card.outputs[0].name: logits}

    def write_onnx(self, path: Path) -> None:
        """Export by torch's graph capture."""
        samples = torch.zeros(2, self._card.window.samples)
        write_graph(
            Served(self._front_end, self._model),
            {self._card.inputs[0].name: samples},
            self._card.outputs[0].name,
            path,
            inner=[FRONT_END_TENSOR],
        )


def open_standardized(card: Card, checkpoint: Path, kind: Any) -> TransformersClassifier:
    """Open a classifier that takes samples of zero mean and unit variance.

    Args:
        card: what the model must be.
        checkpoint: a folder.
        kind: the model's class.

    Raises:
        CheckpointError: it is none of that class, or is damaged.
        ModelMismatchError: it was trained behind another front end than the card's.
    """
    from transformers import Wav2Vec2FeatureExtractor

    extractor_config = read_json(checkpoint, EXTRACTOR)
    compare_extractor(card, extractor_config, {"do_normalize": True, "feature_size": 1})
    front_end = Standardize(StandardizeParameters.from_card(card))
    extractor = Wav2Vec2FeatureExtractor.from_dict(extractor_config)
    return TransformersClassifier(card, load_model(checkpoint, kind), front_end, extractor)


def compare_extractor(
    card: Card, extractor_config: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Compare the checkpoint's feature extractor with the card's window and front end.

    Args:
        card: the card.
        extractor_config: content of `preprocessor_config.json`.
        wanted: what the card's front end makes of it.

    Raises:
        ModelMismatchError: names the first value that differs.
    """
    for name, value in {"sampling_rate": card.window.sample_rate, **wanted}.items():
        if extractor_config.get(name, value) != value:
            raise ModelMismatchError(
                f"{card.name}: the checkpoint's {EXTRACTOR} has {name} {extractor_config[name]}, "
                f"the card's front end {value}"
            )
