"""The proof that an ONNX file is the model of its card: without it, nothing is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bandstand.errors import ModelMismatchError
from bandstand.models.card import Card
from bandstand.runners.base import Array
from bandstand.runners.onnx import OnnxRunner
from bandstand_exporters.source_model import SourceModel

BATCH_SIZES = (1, 3, 8)
BATCH_AXIS = "batch"

Named = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two computations of one output.

    Attributes:
        absolute: largest |a - b|.
        relative: largest |a - b|, over the largest |b| of the same row.
        tolerance_used: largest |a - b| / (absolute + relative * |b|); the card allows 1.
    """

    absolute: float
    relative: float
    tolerance_used: float


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of a proof, by output.

    Attributes:
        examples: rows compared at each batch size.
        source_difference: against the source framework, a row at a time, the worst of all batch
            sizes.
        batch_difference: rows alone against the same rows in the largest batch.
    """

    examples: int
    batch_sizes: tuple[int, ...]
    source_difference: dict[str, Difference]
    batch_difference: dict[str, Difference]


def answers_of(source: SourceModel, inputs: Named) -> Named:
    """Return what a source answers to each row alone: large batches would double the memory."""
    return in_batches(source.run, inputs, 1)


def prove(
    card: Card,
    model_path: Path,
    source: SourceModel,
    inputs: Named,
    wanted: Named | None = None,
) -> Proof:
    """Compare an ONNX file with its card and with its source.

    Names, axes, shapes, dtypes and labels equal the card's; then, for every example at every
    batch size: finite outputs, within the card's tolerance of what the source says of that row
    alone, the same best label for each row, and rows in a batch as they are alone.

    Args:
        card: of the model.
        model_path: the ONNX file.
        source: the opened checkpoint.
        inputs: real inputs, by name, `(n, *shape)` with n at least the largest batch.
        wanted: the source's answers; None: they are computed.

    Raises:
        ModelMismatchError: the message names the tensor and the difference.
    """
    if source.labels != card.labels:
        raise ModelMismatchError(
            f"{card.name}: the checkpoint's labels are {source.labels}, the card's {card.labels}"
        )
    rows = len(next(iter(inputs.values())))
    if rows < max(BATCH_SIZES):
        raise ModelMismatchError(f"{card.name}: {rows} examples prove nothing")
    _check_batch_axes(card, model_path)
    open_runner = partial(OnnxRunner, _batched(card), model_path, threads=1)
    alone = open_runner()  # checks names, shapes and dtypes

    def together(part: Named) -> dict[str, Array]:
        # A new session each time: for the second batch of a shape ONNX Runtime allocates one block,
        # which takes twice the memory of the first.
        return open_runner().run(part)

    wanted = wanted or answers_of(source, inputs)
    outputs = {
        size: in_batches(alone.run if size == 1 else together, inputs, size) for size in BATCH_SIZES
    }
    worst: dict[str, Difference] = {}
    for size in BATCH_SIZES:
        found = compare(card, outputs[size], wanted, f"its source at batch {size}")
        worst = {name: _worse(found[name], worst.get(name)) for name in found}
    of_batch = compare(card, outputs[max(BATCH_SIZES)], outputs[1], "the same rows alone")
    return Proof(rows, BATCH_SIZES, worst, of_batch)


def _batched(card: Card) -> Card:
    """Return the card with its batches computed as such, however a CPU is to serve them."""
    batch = card.batch.model_copy(update={"one_by_one_on_cpu": False})
    return card.model_copy(update={"batch": batch})


def _check_batch_axes(card: Card, model_path: Path) -> None:
    import onnx

    graph = onnx.load(str(model_path), load_external_data=False).graph
    for tensor in (*graph.input, *graph.output):
        axes = [dim.dim_param or dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
        if not axes or axes[0] != BATCH_AXIS or not all(isinstance(n, int) for n in axes[1:]):
            raise ModelMismatchError(
                f"{card.name}: {tensor.name!r} has the axes {axes}; the first is to be "
                f"{BATCH_AXIS!r}, the others fixed"
            )


def in_batches(run: Callable[[Named], dict[str, Array]], inputs: Named, size: int) -> Named:
    """Return the outputs of every row, each computed in a batch of exactly that size.

    Args:
        run: computes a batch.
        inputs: by name, `(n, *shape)`, n at least the size.
        size: of each batch.
    """
    rows = len(next(iter(inputs.values())))
    outputs: dict[str, Array] = {}
    for start in range(0, rows, size):
        first = min(start, rows - size)  # the last batch repeats some rows
        part = run({name: array[first : first + size] for name, array in inputs.items()})
        for name, array in part.items():
            whole = outputs.setdefault(name, np.empty((rows, *array.shape[1:]), array.dtype))
            whole[first : first + size] = array
    return outputs


def compare(card: Card, found: Named, wanted: Named, to_what: str) -> dict[str, Difference]:
    """Compare all outputs of the same rows.

    Raises:
        ModelMismatchError: not finite, farther apart than the card's tolerance, another top label.
    """
    differences = {}
    for tensor in card.outputs:
        a = found[tensor.name].astype(np.float64)
        b = wanted[tensor.name].astype(np.float64)
        what = f"{card.name}: output {tensor.name!r} against {to_what}"
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ModelMismatchError(f"{what}: not all values are finite")
        difference = _difference(card, a, b)
        if difference.tolerance_used > 1:
            raise ModelMismatchError(
                f"{what}: {difference.absolute:.3g} apart, {difference.relative:.3g} relative; "
                f"that is {difference.tolerance_used:.3g} times the card's tolerance"
            )
        differences[tensor.name] = difference
    logits = card.outputs[0].name
    changed = found[logits].argmax(axis=-1) != wanted[logits].argmax(axis=-1)
    if changed.any():
        raise ModelMismatchError(
            f"{card.name}: output {logits!r} against {to_what}: the best label of "
            f"{int(changed.sum())} of {changed.size} rows changed"
        )
    return differences


def _difference(card: Card, a: Array, b: Array) -> Difference:
    apart = np.abs(a - b)
    largest = np.abs(b).reshape(len(b), -1).max(axis=1).reshape(-1, *(1,) * (b.ndim - 1))
    allowed = card.tolerance.absolute + card.tolerance.relative * np.abs(b)
    return Difference(
        absolute=float(apart.max()),
        relative=float((apart / np.maximum(largest, np.finfo(np.float32).tiny)).max()),
        tolerance_used=float((apart / np.maximum(allowed, np.finfo(np.float64).tiny)).max()),
    )


def _worse(a: Difference, b: Difference | None) -> Difference:
    return a if b is None or a.tolerance_used >= b.tolerance_used else b
