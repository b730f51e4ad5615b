"""The rules by which Triton's native onnxruntime backend loads or refuses a model.

Our Python backend applies them too, so a repository that loads here loads in NVIDIA's image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bandstand.runners.checks import GraphTensor

TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(double)": "TYPE_FP64",
    "tensor(int64)": "TYPE_INT64",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int8)": "TYPE_INT8",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}
"""Triton's names of ONNX Runtime's types."""

ONE_BY_ONE = "one_by_one_on_cpu"
"""A config parameter for our Python backend only: the card's `batch.one_by_one_on_cpu`."""

_ANY = -1


def refusal(
    config: Mapping[str, Any], inputs: Sequence[GraphTensor], outputs: Sequence[GraphTensor]
) -> str | None:
    """Return the native backend's reason to refuse a model; None: it loads the model.

    Args:
        config: the model's config, as Triton hands it to a backend.
        inputs: the graph's, their dtypes in Triton's names.
        outputs: likewise.
    """
    name, asked = config["name"], config.get("input", [])
    if len(asked) != len(inputs):
        return (
            f"unable to load model '{name}', configuration expects {len(asked)} inputs, "
            f"model provides {len(inputs)}"
        )
    batched = config.get("max_batch_size", 0) > 0
    for kind, promised, found in (
        ("input", asked, {tensor.name: tensor for tensor in inputs}),
        ("output", config.get("output", []), {tensor.name: tensor for tensor in outputs}),
    ):
        for slot in promised:
            if slot["name"] not in found:
                return (
                    f"unexpected inference {kind} '{slot['name']}', allowed {kind}s are: "
                    f"{', '.join(found)}"
                )
            wrong = _wrong_tensor(kind, slot, found[slot["name"]], batched=batched)
            if wrong is not None:
                return f"unable to load model '{name}', {wrong}"
    return None


def _wrong_tensor(
    kind: str, slot: Mapping[str, Any], tensor: GraphTensor, *, batched: bool
) -> str | None:
    if slot["data_type"] != tensor.dtype:
        return (
            f"configuration expects datatype {slot['data_type']} for {kind} '{tensor.name}', "
            f"model provides {tensor.dtype}"
        )
    if slot.get("allow_ragged_batch"):
        return f"{kind} '{tensor.name}' allows ragged batches, which this backend does not support"
    graph = [_ANY if axis is None else axis for axis in tensor.shape]
    dims = [int(axis) for axis in (slot.get("reshape") or {}).get("shape", slot["dims"])]
    if batched and graph[:1] != [_ANY]:
        return (
            f"tensor '{tensor.name}': for the model to support batching the shape should have at "
            f"least 1 dimension and the first dimension must be -1; but shape expected by the "
            f"model is {graph}"
        )
    expected = [_ANY, *dims] if batched else dims
    # The config may fix an input axis that is dynamic in the graph, but not an output axis.
    open_axes = {_ANY} if kind == "input" else set()
    fits = len(expected) == len(graph) and all(
        theirs in {ours} | open_axes for ours, theirs in zip(expected, graph, strict=True)
    )
    if not fits:
        return (
            f"tensor '{tensor.name}': the model expects {len(graph)} dimensions (shape {graph}) "
            f"but the model configuration specifies {len(expected)} dimensions (shape {expected})"
        )
    return None
