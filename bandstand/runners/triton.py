"""A model on a Triton server, with the interface of all models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bandstand.errors import ModelMismatchError, NonFiniteOutputError
from bandstand.models.card import Card
from bandstand.runners.base import Array
from bandstand.runners.checks import check_batch, finite_rows, own_outputs
from bandstand.runners.triton_connection import RegionUnknownError, TritonConnection
from bandstand.runners.triton_memory import SMALLEST_BYTES, Arena, Placed, SharedMemory
from bandstand.telemetry import request_id, stage

# Pieces of one long recording in flight at the same time: enough to keep a GPU busy, and few enough
# for other requests to be computed between them.
_PIECES_AT_ONCE = 4
# KServe's names of numpy's dtypes.
_DATATYPES = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "int32": "INT32"}


class TritonModel:
    """A model on a Triton server; a `bandstand.runners.pool.PooledModel`.

    Args:
        card_of: returns the card of a version.
        version: the expected version; each answer has the actual one.
        connection: the connection to the server.
        memory: the memory shared with the server.
    """

    def __init__(
        self,
        card_of: Callable[[int], Card],
        version: int,
        connection: TritonConnection,
        memory: SharedMemory,
    ) -> None:
        self._card_of = card_of
        self.card = card_of(version)
        self.version = version
        self.runtime: str | None = None
        self._connection = connection
        self._memory = memory
        self._template = _template(connection.messages, self.card)

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute one batch, in pieces if it is larger than the model's largest batch.

        Afterwards `card` and `version` are those that answered.

        Raises:
            UnusableRequestError: the inputs do not match the card's names, shapes and dtypes.
            ModelMismatchError: the server's model does not match the card.
            NonFiniteOutputError: the model computed NaN or infinity.
            BandstandError: the refusals of `TritonConnection.infer`.
        """
        batch = check_batch(self.card, inputs)
        rows = len(next(iter(batch.values())))
        with stage("inference"):
            responses = await self._infer_pieces(batch, rows)
            if len({response.model_version for response in responses}) > 1:
                # The version changed between two pieces; an answer must be of one version.
                responses = await self._infer_pieces(batch, rows)
        outputs = own_outputs(self.card, rows, _joined(self.card, responses))
        if not finite_rows(outputs).all():
            raise NonFiniteOutputError("the model computed NaN or infinity")
        self.set_version(int(responses[0].model_version))
        return outputs

    def set_version(self, version: int) -> None:
        """Store the version that answers, and its card.

        Raises:
            BandstandError: the card of that version is not in this repository.
        """
        if version != self.version:
            self.card, self.version = self._card_of(version), version
            self._template = _template(self._connection.messages, self.card)

    async def _infer_pieces(self, batch: Mapping[str, Array], rows: int) -> list[Any]:
        """Send a batch, in pieces if needed; return the responses in order."""
        max_rows = self.card.batch.max_size
        if rows <= max_rows:
            return [await self._infer_piece(batch)]
        turns = asyncio.Semaphore(_PIECES_AT_ONCE)

        async def in_turn(start: int) -> Any:
            async with turns:
                return await self._infer_piece(
                    {n: a[start : start + max_rows] for n, a in batch.items()}
                )

        tasks = [asyncio.ensure_future(in_turn(start)) for start in range(0, rows, max_rows)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # after one has failed, the others are not computed
                task.cancel()

    async def _infer_piece(self, batch: Mapping[str, Array]) -> Any:
        """Send one piece, in shared memory if it is large."""
        arrays = [batch[tensor.name] for tensor in self.card.inputs]
        if max(array.nbytes for array in arrays) >= SMALLEST_BYTES:
            arena = await self._memory.arena()
            if arena is not None:
                try:
                    return await self._infer_shared(arrays, arena)
                except RegionUnknownError:
                    self._memory.forget(arena.name)
        return await self._connection.infer(self._request(arrays))

    async def _infer_shared(self, arrays: list[Array], arena: Arena) -> Any:
        with self._memory.placed(arena, arrays) as places:
            return await self._connection.infer(self._request(arrays, places))

    def _request(self, arrays: list[Array], places: Sequence[Placed | None] = ()) -> Any:
        request = self._connection.messages.ModelInferRequest(id=request_id.get())
        request.MergeFrom(self._template)
        for i, (tensor, array) in enumerate(zip(request.inputs, arrays, strict=True)):
            tensor.shape[0] = len(array)
            placed = places[i] if places else None
            if placed is None:
                request.raw_input_contents.append(array.tobytes())
            else:
                parameters = tensor.parameters
                parameters["shared_memory_region"].string_param = placed.region
                parameters["shared_memory_byte_size"].int64_param = placed.size
                parameters["shared_memory_offset"].int64_param = placed.offset
        return request


def _template(messages: Any, card: Card) -> Any:
    """Return a request for one row without its data; it is copied for every call."""
    tensor = messages.ModelInferRequest.InferInputTensor
    output = messages.ModelInferRequest.InferRequestedOutputTensor
    return messages.ModelInferRequest(
        model_name=card.name,
        inputs=[
            tensor(name=t.name, datatype=_DATATYPES[t.dtype], shape=[1, *t.shape])
            for t in card.inputs
        ],
        outputs=[output(name=t.name) for t in card.outputs],
    )


def _arrays(card: Card, response: Any) -> dict[str, Array]:
    """Return a response's outputs as views of its bytes.

    Raises:
        ModelMismatchError: outputs or dtypes differ from the card's.
    """
    arrays = {}
    dtypes = {t.name: t.dtype for t in card.outputs}
    for tensor, content in zip(response.outputs, response.raw_output_contents, strict=True):
        dtype = dtypes.pop(tensor.name, None)
        if dtype is None or _DATATYPES[dtype] != tensor.datatype:
            raise ModelMismatchError(
                f"{card.name}: Triton's output {tensor.name!r} of {tensor.datatype} is not in "
                "the card"
            )
        arrays[tensor.name] = np.frombuffer(content, dtype).reshape(tensor.shape)
    if dtypes:
        raise ModelMismatchError(f"{card.name}: Triton's answer lacks the outputs {sorted(dtypes)}")
    return arrays


def _joined(card: Card, responses: Sequence[Any]) -> dict[str, Array]:
    parts = [_arrays(card, response) for response in responses]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
