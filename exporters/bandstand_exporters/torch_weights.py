"""Weights by name as torch and safetensors keep them, in one file; no code in it is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bandstand.errors import CheckpointError
from bandstand_exporters.file_kind import kind_of

_WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Names of the weights in a larger checkpoint."""
_PARALLEL = "module."
"""Prefixes that torch's parallel wrappers add to every name."""
SHOWN_NAMES = 6


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network, as float32, by the names that its modules had.

    Raises:
        CheckpointError: damaged, no weights by name, or more than tensors in it.
    """
    try:
        if kind_of(path) == "safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    except Exception as error:  # a damaged pickle can raise any exception
        raise CheckpointError(
            f"{path.name} cannot be read safely, only weights can be (`state_dict()`): {error}"
        ) from error
    for name in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not _only_tensors(content):
        raise CheckpointError(f"{path.name} holds no weights by name")
    return {
        name.removeprefix(_PARALLEL): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in content.items()
    }


def names_of(weights: Mapping[str, Tensor]) -> str:
    """Return the first names and shapes, in words."""
    shown = [f"{name} {list(weights[name].shape)}" for name in list(weights)[:SHOWN_NAMES]]
    return f"{len(weights)} tensors, {', '.join(shown)}{', …' * (len(weights) > SHOWN_NAMES)}"


def _only_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items())
