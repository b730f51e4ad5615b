"""A model on a Triton server, as the pipelines see any model."""

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

# Pieces of one long recording that are under way at once: enough to keep a GPU busy with the next
# while one is computed, few enough to leave others their turn.
_PIECES_AT_ONCE = 4
# KServe's names of numpy's dtypes.
_DATATYPES = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "int32": "INT32"}


class TritonModel:
    """One card's model on a Triton server; a `bandstand.runners.pool.PooledModel`.

    Args:
        card_of: gives a version's card.
        version: the one to be expected; each answer says which it was.
        connection: to the server.
        memory: shared with the server.
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
        """Answer one batch, in pieces where it is larger than the model takes at once.

        Afterwards `card` and `version` are those that answered.

        Raises:
            UnusableRequestError: names, shapes or dtypes that the card does not have.
            ModelMismatchError: the server's model is not what the card says.
            NonFiniteOutputError: it answered NaN or infinity.
            BandstandError: the refusals of `TritonConnection.infer`.
        """
        batch = check_batch(self.card, inputs)
        rows = len(next(iter(batch.values())))
        with stage("inference"):
            responses = await self._infer_pieces(batch, rows)
            if len({response.model_version for response in responses}) > 1:
                # Another version took over in between: one answer is of one version.
                responses = await self._infer_pieces(batch, rows)
        outputs = own_outputs(self.card, rows, _joined(self.card, responses))
        if not finite_rows(outputs).all():
            raise NonFiniteOutputError("the model answered NaN or infinity")
        self.set_version(int(responses[0].model_version))
        return outputs

    def set_version(self, version: int) -> None:
        """Take note of the version that answers, and of its card.

        Raises:
            BandstandError: the card of that version is not in this repository.
        """
        if version != self.version:
            self.card, self.version = self._card_of(version), version
            self._template = _template(self._connection.messages, self.card)

    async def _infer_pieces(self, batch: Mapping[str, Array], rows: int) -> list[Any]:
        """Send a batch, in pieces where need be; return the responses in order."""
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
            for task in tasks:  # one failed: the others need no computing
                task.cancel()

    async def _infer_piece(self, batch: Mapping[str, Array]) -> Any:
        """Send one piece, in shared memory where it is large."""
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
    """Return the request of one row, but for the row; copied for every call."""
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
    """Return a response's outputs: views of its bytes.

    Raises:
        ModelMismatchError: not the card's outputs, or not its dtypes.
    """
    arrays = {}
    dtypes = {t.name: t.dtype for t in card.outputs}
    for tensor, content in zip(response.outputs, response.raw_output_contents, strict=True):
        dtype = dtypes.pop(tensor.name, None)
        if dtype is None or _DATATYPES[dtype] != tensor.datatype:
            raise ModelMismatchError(
                f"{card.name}: Triton's output {tensor.name!r} of {tensor.datatype} is none of the "
                "card's"
            )
        arrays[tensor.name] = np.frombuffer(content, dtype).reshape(tensor.shape)
    if dtypes:
        raise ModelMismatchError(f"{card.name}: Triton answered without {sorted(dtypes)}")
    return arrays


def _joined(card: Card, responses: Sequence[Any]) -> dict[str, Array]:
    parts = [_arrays(card, response) for response in responses]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
