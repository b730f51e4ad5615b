"""A torch module to one ONNX file, by torch's graph capture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bandstand_exporters.proof import BATCH_AXIS

OPSET = 20


def write_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    output: str,
    path: Path,
    *,
    inner: Sequence[str] = (),
) -> None:
    """Write a module with one output; the batch axis is dynamic, all others are fixed.

    Args:
        module: put into evaluation mode.
        inputs: one example of each argument of `forward`, in its order, by the name it gets in
            the graph; two rows or more, since of one row the capture would make a constant.
        output: the name of the output.
        path: the file.
        inner: names of what the module returns before its output. Inside the graph they are called
            so; outputs they are none.
    """
    batch = torch.export.Dim(BATCH_AXIS)
    with warnings.catch_warnings():
        # torch's own code calls what torch has deprecated.
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        # Of several inputs it says that their batch axes are one; that is the intention.
        warnings.filterwarnings("ignore", r"# The axis name: batch will not be used", UserWarning)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            path,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[*inner, output],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            verbose=False,
        )
    if inner:
        _keep_inside(path, len(inner))


def _keep_inside(path: Path, count: int) -> None:
    """Make the first outputs of a graph what is only inside it."""
    import onnx

    model = onnx.load(str(path))
    model.graph.value_info.extend(model.graph.output[:count])
    del model.graph.output[:count]
    onnx.save(model, str(path))
