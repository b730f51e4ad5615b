"""Opening a folder that transformers' `save_pretrained` wrote; no code in it is run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bandstand.errors import CheckpointError

CONFIGURATION = "config.json"
EXTRACTOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
MASK = "masked_spec_embed"
"""Stands for what is masked in training; some checkpoints keep it, no answer depends on it."""
ATTENTION = "eager"
"""As plain products and a softmax. torch's own operator becomes a graph that also looks for rows of
NaN, which hides the attention from the runtimes: a tenth of Wav2Vec2's time in OpenVINO."""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON object of the folder.

    Raises:
        CheckpointError: there is none of that name.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} of the checkpoint cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name} of the checkpoint is no JSON object")
    return content


def load_model(folder: Path, kind: Any) -> Any:
    """Return a classifier in evaluation mode, its weight normalisation folded into its weights.

    Args:
        folder: configuration and weights.
        kind: the model's class, as in `Wav2Vec2ForSequenceClassification`.

    Raises:
        CheckpointError: of another architecture, damaged, or not all weights are there and fit.
    """
    configuration = read_json(folder, CONFIGURATION)
    wanted, found = kind.config_class.model_type, configuration.get("model_type")
    if found != wanted:
        raise CheckpointError(f"the checkpoint is a {found} model, wanted is {wanted}")
    architectures = configuration.get("architectures") or [kind.__name__]
    if kind.__name__ not in architectures:
        raise CheckpointError(f"the checkpoint is a {architectures[0]}, wanted is {kind.__name__}")
    weights = _read_weights(folder)
    with _quiet():
        try:
            model, seen = kind.from_pretrained(
                None,
                config=kind.config_class.from_dict(configuration),
                state_dict=weights,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                attn_implementation=ATTENTION,
                dtype=torch.float32,
            )
        except Exception as error:  # a configuration can be wrong in many ways
            raise CheckpointError(f"the checkpoint does not make a {wanted}: {error}") from error
    _check_complete(seen)
    fold_weight_norm(model)
    return model.eval()


def labels_of(model: Any) -> tuple[str, ...]:
    """Return the labels of the checkpoint's configuration, in the order of the logits.

    Raises:
        CheckpointError: they are not numbered through.
    """
    return in_order({int(number): str(name) for number, name in model.config.id2label.items()})


def in_order(names: Mapping[int, str]) -> tuple[str, ...]:
    """Return labels by their numbers.

    Raises:
        CheckpointError: they are not numbered through.
    """
    if sorted(names) != list(range(len(names))):
        raise CheckpointError(f"the checkpoint numbers its labels {sorted(names)}")
    return tuple(names[number] for number in range(len(names)))


def fold_weight_norm(model: nn.Module) -> None:
    """Replace normalised weights by plain ones: a graph captured with normalised ones was wrong."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    safe, pickled = folder / WEIGHTS, folder / PICKLED_WEIGHTS
    try:
        if safe.is_file():
            return load_file(safe)
        weights = torch.load(pickled, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the checkpoint's weights cannot be read: {error}") from error
    except Exception as error:  # a damaged pickle can raise any exception
        raise CheckpointError(f"{pickled.name} cannot be read safely: {error}") from error
    if not isinstance(weights, dict):
        raise CheckpointError(f"{pickled.name} holds no weights by name")
    return weights


def _check_complete(seen: dict[str, Any]) -> None:
    missing = [name for name in seen["missing_keys"] if not name.endswith(MASK)]
    surplus = [name for name in seen["unexpected_keys"] if not name.endswith(MASK)]
    other = [name for name, *_ in seen["mismatched_keys"]]
    for what, names in (
        ("lacks", missing),
        ("has besides", surplus),
        ("has other sizes of", other),
    ):
        if names:
            raise CheckpointError(
                f"the checkpoint is not what its configuration says: it {what} {len(names)} "
                f"weights, {sorted(names)[0]} among them"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off transformers' bars and tables; their content is raised as errors."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
