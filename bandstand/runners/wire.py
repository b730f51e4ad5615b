"""The format of arrays between processes: a JSON header, then the arrays' bytes; no pickles.

Layout: 8 bytes little-endian header length, the header (JSON, padded with spaces), then each
array at the 64-byte aligned offset that the header gives. Reading does not copy the arrays.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from bandstand.errors import MalformedRequestError
from bandstand.runners.base import Array

_ALIGN = 64
_LENGTH = struct.Struct("<Q")
_DTYPES = {
    name: np.dtype(name)
    for name in ("float32", "float16", "float64", "int64", "int32", "int16", "uint8", "bool")
}


def _padding(length: int) -> int:
    return -length % _ALIGN


def pack(arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> bytes:
    """Return one block of arrays and metadata that JSON can represent.

    Raises:
        ValueError: the format does not have the dtype of an array.
    """
    described, chunks, offset = [], [], 0
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"arrays of {array.dtype} cannot be sent")
        block = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""
        described.append([name, array.dtype.name, list(array.shape), offset])
        pad = _padding(len(block))
        chunks += [block, bytes(pad)]
        offset += len(block) + pad
    header = json.dumps({"arrays": described, "metadata": metadata}).encode()
    header += b" " * _padding(_LENGTH.size + len(header))
    return b"".join([_LENGTH.pack(len(header)), header, *chunks])


def unpack(block: bytes | memoryview) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays, as read-only views of the block, and the metadata.

    Raises:
        MalformedRequestError: the bytes are not a block.
    """
    try:
        (length,) = _LENGTH.unpack_from(block)
        body = _LENGTH.size + length
        header = json.loads(bytes(block[_LENGTH.size : body]))
        arrays = {}
        for name, dtype, shape, offset in header["arrays"]:
            kind, count = _DTYPES[dtype], math.prod(shape)
            flat = np.frombuffer(block, kind, count, body + offset) if count else np.empty(0, kind)
            arrays[name] = flat.reshape(shape)
        return arrays, header["metadata"]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise MalformedRequestError(f"not a block of arrays: {error}") from error
