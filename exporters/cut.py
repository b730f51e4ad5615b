"""The network behind a graph's front end, as a file of its own for runners that cut it off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bandstand.errors import ModelMismatchError
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array
from bandstand.runners.host_front_end import HOST_FRONT_ENDS, HostFrontEndRunner
from exporters.proof import compare


def has_host_form(card: Card) -> bool:
    """Say whether the card's front end can run on the host instead of in the graph."""
    return card.front_end.kind in HOST_FRONT_ENDS


def cut_front_end(card: Card, model_path: Path, network_path: Path) -> None:
    """Write what follows the tensor `front_end` in a graph.

    Raises:
        ModelMismatchError: the graph has no such tensor.
    """
    import onnx

    graph = onnx.load(str(model_path)).graph
    if FRONT_END_TENSOR not in {tensor.name for tensor in graph.value_info}:
        raise ModelMismatchError(f"{card.name}: no tensor in the graph is called front_end")
    outputs = [tensor.name for tensor in graph.output]
    onnx.utils.extract_model(str(model_path), str(network_path), [FRONT_END_TENSOR], outputs)


def prove_cut(
    card: Card, model_path: Path, wanted: Mapping[str, Array], inputs: Mapping[str, Array]
) -> None:
    """Compare the host's front end and the cut network with the whole graph.

    Args:
        card: whose model it is.
        model_path: the whole graph; the cut one lies beside it.
        wanted: what the whole graph answers to `inputs`.
        inputs: real inputs.

    Raises:
        ModelMismatchError: farther apart than the card's tolerance.
    """
    runner = HostFrontEndRunner(card, model_path, threads=1)
    size = card.batch.max_size
    rows = len(next(iter(inputs.values())))
    for start in range(0, rows, size):
        part = slice(start, start + size)
        found = runner.run({name: array[part] for name, array in inputs.items()})
        compare(card, found, {name: array[part] for name, array in wanted.items()}, "the host")
