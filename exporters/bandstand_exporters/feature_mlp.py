"""The architecture `feature_mlp`: features to logits, the scaler inside the graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bandstand.errors import ModelMismatchError
from bandstand.models.card import Card
from bandstand.runners.base import Array
from bandstand.settings import get_settings
from bandstand_exporters.source_model import Examples
from bandstand_training.checkpoint import Checkpoint, load_checkpoint
from bandstand_training.fit import logits_of
from bandstand_training.table import read_table

OPSET = 20
DRAWN = 64
"""Rows drawn if there is no feature table."""


class FeatureMlp:
    """An opened `feature_mlp` checkpoint."""

    def __init__(self, card: Card, checkpoint: Checkpoint) -> None:
        if len(card.inputs) != 1 or len(card.outputs) != 1:
            raise ModelMismatchError(f"{card.name}: a feature_mlp has one input and one output")
        self._model = checkpoint.model
        self._input, self._output = card.inputs[0].name, card.outputs[0].name
        self.framework = f"torch {torch.__version__}"
        self.labels = checkpoint.metadata.labels

    def examples(self) -> Examples:
        """Return the feature table's rows, or rows drawn around the scaler's mean; and silence."""
        path = get_settings().data_dir / "tables" / "gtzan_features_30_sec.csv"
        if path.is_file():
            rows, origin = read_table(path).features, f"all rows of {path.name}"
        else:
            rows, origin = self._draw(), f"{DRAWN} rows drawn from the scaler's statistics"
        silence = np.zeros((1, rows.shape[1]))
        inputs = np.concatenate([rows, silence]).astype(np.float32)
        return Examples({self._input: inputs}, f"{origin}, and a row of zeros")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the logits."""
        return {self._output: logits_of(self._model, inputs[self._input])}

    def write_onnx(self, path: Path) -> None:
        """Export by torch's graph capture."""
        features = torch.from_numpy(self._draw()[:2].astype(np.float32))
        with warnings.catch_warnings():
            # torch's own code calls deprecated functions of torch.
            warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
            torch.onnx.export(
                self._model.eval(),
                (features,),
                path,
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[self._input],
                output_names=[self._output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )

    def _draw(self) -> Array:
        scaler = self._model.scaler
        mean, scale = scaler.mean.double().numpy(), scaler.scale.double().numpy()
        rows: Array = np.random.default_rng(0).normal(mean, scale, (DRAWN, len(mean)))
        np.exp(rows, out=rows, where=scaler.logged.numpy())
        return rows


def open_source(card: Card, checkpoint: Path) -> FeatureMlp:
    """Open a checkpoint that `bandstand_training.checkpoint` wrote.

    Raises:
        CheckpointError: it is not a checkpoint, or is damaged.
    """
    return FeatureMlp(card, load_checkpoint(checkpoint))
