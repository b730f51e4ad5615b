"""The network behind a graph's front end as a separate file, for runners on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bandstand.errors import ModelMismatchError
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.models.installed import NETWORK_FILE
from bandstand.runners.base import Array
from bandstand.runners.host_front_end import HOST_FRONT_ENDS, HostFrontEndRunner
from bandstand.runners.onnx import OnnxRunner
from bandstand_exporters.proof import compare, in_batches
from bandstand_exporters.weights import move_weights


def has_host_form(card: Card) -> bool:
    """Return whether the card's front end can run on the host instead of in the graph."""
    return card.front_end.kind in HOST_FRONT_ENDS


def write_host_form(card: Card, model_path: Path) -> dict[str, Path]:
    """Write the part of a graph after the tensor `front_end`; both share one file of weights.

    Args:
        card: of the model.
        model_path: the complete graph; its weights are moved to the shared file.

    Returns:
        The files to store beside the graph, by name.

    Raises:
        ModelMismatchError: the graph has no such tensor.
        OSError: the disk is full or not writable.
    """
    import onnx

    weights_path = move_weights(model_path)
    network_path = model_path.with_name(NETWORK_FILE)
    model = onnx.load(str(model_path), load_external_data=False)
    if FRONT_END_TENSOR not in {tensor.name for tensor in model.graph.value_info}:
        raise ModelMismatchError(f"{card.name}: no tensor in the graph is called front_end")
    for node in model.graph.node:
        if _asks_for_batch(node, card):
            node.input[0] = FRONT_END_TENSOR
    outputs = [tensor.name for tensor in model.graph.output]
    network = onnx.utils.Extractor(model).extract_model([FRONT_END_TENSOR], outputs)
    onnx.save(network, str(network_path))
    onnx.checker.check_model(str(network_path))
    return {path.name: path for path in (network_path, weights_path)}


def _asks_for_batch(node: Any, card: Card) -> bool:
    """Return whether a node reads the first axis of an input, which the front end's output has too.

    torch reads the batch size from the graph's input.
    """
    axes = {attribute.name: attribute.i for attribute in node.attribute}
    inputs = {tensor.name for tensor in card.inputs}
    return node.op_type == "Shape" and node.input[0] in inputs and axes == {"start": 0, "end": 1}


def prove_cut(
    card: Card, model_path: Path, inputs: Mapping[str, Array], wanted: Mapping[str, Array]
) -> None:
    """Compare the host's front end and the cut network with the source.

    Args:
        card: whose model it is.
        model_path: the whole graph; the cut one lies beside it.
        inputs: real inputs.
        wanted: what the source of the whole graph answers to each of them alone.

    Raises:
        ModelMismatchError: farther apart than the card's tolerance.
    """
    runner = HostFrontEndRunner(card, model_path, partial(OnnxRunner, threads=1))
    compare(
        card,
        in_batches(runner.run, inputs, 1),
        wanted,
        "its source, with the front end on the host",
    )
