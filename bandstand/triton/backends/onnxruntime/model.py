"""The backend `onnxruntime` where the native one is not: Triton runs this for every such model."""

from bandstand.triton.onnxruntime_backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
