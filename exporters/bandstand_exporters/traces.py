"""Removes metadata about the export's machine and code from a graph."""

from __future__ import annotations

from pathlib import Path


def remove_traces(model_path: Path) -> None:
    """Delete stack traces, names of Python classes and comments from an ONNX file, in place.

    torch writes the stack trace of every operator into the file: a sixth of a small model, the
    folders of the machine that exported it, and another file for the same weights elsewhere.
    """
    import onnx

    model = onnx.load(str(model_path), load_external_data=False)
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.initializer, *graph.value_info]
    parts += [*graph.input, *graph.output, *model.functions]
    parts += [node for function in model.functions for node in function.node]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, str(model_path))
