"""The network behind a graph's front end, as a file of its own for runners that cut it off."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bandstand.errors import ModelMismatchError
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.runners.base import Array
from bandstand.runners.host_front_end import HOST_FRONT_ENDS, NETWORK_FILE, HostFrontEndRunner
from bandstand.runners.onnx import OnnxRunner
from bandstand_exporters.proof import compare, in_batches
from bandstand_exporters.source_model import SourceModel
from bandstand_exporters.weights import move_weights


def has_host_form(card: Card) -> bool:
    """Say whether the card's front end can run on the host instead of in the graph."""
    return card.front_end.kind in HOST_FRONT_ENDS


def write_host_form(card: Card, model_path: Path) -> dict[str, Path]:
    """Write what follows the tensor `front_end` in a graph; both share one file of weights.

    Args:
        card: whose model it is.
        model_path: the whole graph; its weights are moved out of it.

    Returns:
        The files that belong beside the graph, by name.

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
    """Say whether a node asks for the first axis of an input, which the front end's result has too.

    torch takes the batch's size from the graph's input wherever a network needs it.
    """
    axes = {attribute.name: attribute.i for attribute in node.attribute}
    inputs = {tensor.name for tensor in card.inputs}
    return node.op_type == "Shape" and node.input[0] in inputs and axes == {"start": 0, "end": 1}


def prove_cut(
    card: Card, model_path: Path, source: SourceModel, inputs: Mapping[str, Array]
) -> None:
    """Compare the host's front end and the cut network with the source.

    Args:
        card: whose model it is.
        model_path: the whole graph; the cut one lies beside it.
        source: what the whole graph was made from.
        inputs: real inputs.

    Raises:
        ModelMismatchError: farther apart than the card's tolerance.
    """
    runner = HostFrontEndRunner(card, model_path, partial(OnnxRunner, threads=1))
    found, wanted = (in_batches(run, inputs, 1) for run in (runner.run, source.run))
    compare(card, found, wanted, "its source, with the front end on the host")
