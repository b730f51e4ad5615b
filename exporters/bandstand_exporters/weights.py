"""The weights of a graph as a file of their own, which several graphs refer to."""

from __future__ import annotations

from pathlib import Path

WEIGHTS_FILE = "weights.bin"
"""Beside the graphs, which name it without a folder: runtimes look for it where the graph is."""

FEWEST_BYTES = 1024
"""Smaller constants stay in the graph. Shapes and axes are among them, which a runtime has to know
before it reads weights."""
_ALIGN = 4096
"""Bytes; a page, as the format advises, so that a runtime can map each weight by itself."""


def move_weights(model_path: Path) -> Path:
    """Move the weights of an ONNX file into a new file beside it, and return that file's path.

    Raises:
        OSError: the disk is full or not writable.
    """
    import onnx
    from onnx.external_data_helper import set_external_data

    model = onnx.load(str(model_path))
    end = 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        if size >= FEWEST_BYTES:
            start = -(-end // _ALIGN) * _ALIGN
            set_external_data(tensor, WEIGHTS_FILE, start, size)
            end = start + size
    weights_path = model_path.with_name(WEIGHTS_FILE)
    weights_path.write_bytes(b"")  # onnx appends to what is there
    onnx.save(model, str(model_path))
    return weights_path


def model_files(model_path: Path) -> tuple[Path, ...]:
    """Return the files that make a model: the graph, and its weights where they lie beside it."""
    weights_path = model_path.with_name(WEIGHTS_FILE)
    return (model_path, weights_path) if weights_path.is_file() else (model_path,)
