"""Compares a model file with its card, and a batch with the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bandstand.errors import ModelMismatchError, UnusableRequestError
from bandstand.models.card import Card, Tensor
from bandstand.runners.base import Array


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output of the file.

    Attributes:
        dtype: numpy's name of the dtype.
        shape: every axis, the batch axis first; None for a dynamic axis.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def check_graph(card: Card, inputs: Sequence[GraphTensor], outputs: Sequence[GraphTensor]) -> None:
    """Compare a file's inputs and outputs with its card's.

    The batch axis must be dynamic. Another dynamic axis may have any length in the card, as in
    Triton.

    Raises:
        ModelMismatchError: they differ; the message names the tensor and both values.
    """
    for kind, expected, found in (
        ("input", card.inputs, inputs),
        ("output", card.outputs, outputs),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        names = {tensor.name for tensor in expected}
        if names != by_name.keys():
            raise ModelMismatchError(
                f"{card.name}: the card has the {kind}s {sorted(names)}, the file {sorted(by_name)}"
            )
        for tensor in expected:
            _check_tensor(f"{card.name}: {kind} {tensor.name!r}", tensor, by_name[tensor.name])


def _check_tensor(what: str, expected: Tensor, found: GraphTensor) -> None:
    if expected.dtype != found.dtype:
        raise ModelMismatchError(
            f"{what} is {expected.dtype} in the card, {found.dtype} in the file"
        )
    card_shape = (None, *expected.shape)
    same_rank = len(card_shape) == len(found.shape)
    fits = same_rank and all(
        axis in (None, length) for length, axis in zip(card_shape, found.shape, strict=True)
    )
    if not fits:
        raise ModelMismatchError(
            f"{what} is {_text(card_shape)} in the card, {_text(found.shape)} in the file"
        )


def _text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("any" if axis is None else str(axis) for axis in shape) + "]"


def check_batch(card: Card, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the inputs, C-contiguous, after comparing them with the card.

    Raises:
        UnusableRequestError: names, dtypes or shapes differ, there is no row, or the inputs have
            different numbers of rows.
    """
    names = {tensor.name for tensor in card.inputs}
    if names != inputs.keys():
        raise UnusableRequestError(
            f"{card.name} takes the inputs {sorted(names)}; got {sorted(inputs)}"
        )
    rows = {len(array) if array.ndim else 0 for array in inputs.values()}
    if len(rows) != 1 or 0 in rows:
        raise UnusableRequestError(
            f"{card.name} takes at least one row, and as many for each input; got {sorted(rows)}"
        )
    for tensor in card.inputs:
        array = inputs[tensor.name]
        if array.dtype.name != tensor.dtype or array.shape[1:] != tensor.shape:
            raise UnusableRequestError(
                f"{card.name}: input {tensor.name!r} is {tensor.dtype} of shape "
                f"{_text((None, *tensor.shape))}, got {array.dtype} of {list(array.shape)}"
            )
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}


def own_outputs(card: Card, rows: int, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the card's outputs in arrays that own their memory; float16 becomes float32.

    Raises:
        ModelMismatchError: an output's shape differs from the card's.
    """
    owned = {}
    for tensor in card.outputs:
        array = outputs[tensor.name]
        if array.shape != (rows, *tensor.shape):
            raise ModelMismatchError(
                f"{card.name}: output {tensor.name!r} has shape {list(array.shape)}, "
                f"in the card {[rows, *tensor.shape]}"
            )
        dtype = np.float32 if tensor.dtype == "float16" else array.dtype
        keep = array.flags.owndata and array.dtype == dtype
        owned[tensor.name] = array if keep else np.array(array, dtype=dtype)
    return owned


def finite_rows(outputs: Mapping[str, Array]) -> Array:
    """Return for each row whether all its outputs are finite; bool, shape (rows,)."""
    masks = [np.isfinite(array.reshape(len(array), -1)).all(axis=1) for array in outputs.values()]
    finite: Array = np.logical_and.reduce(masks)
    return finite
