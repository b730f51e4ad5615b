"""An operation as a model of Triton: encoded audio and options in, the answer's JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bandstand.operations.encoding import read_json_options, read_options, to_json
from bandstand.operations.served import SERVED, ServedOperation
from bandstand.pipelines.resources import Resources
from bandstand.triton.audio_model import AudioModel, bytes_tensor, recordings, text
from bandstand.triton.audio_models import ANSWER, OPTIONS
from bandstand.triton.served_models import ServedModels


class OperationModel(AudioModel):
    """Runs one operation with the models of this server."""

    operation: ServedOperation

    async def answer(self, inputs: Mapping[str, Any], request_id: str) -> list[Any]:
        """Return `answer`: JSON, one row for each recording; they are computed concurrently."""
        models = ServedModels(self.versions, request_id)
        resources = Resources(self.preparation, models, self.catalogue)
        declared = self.operation.declared

        async def one(audio: bytes, row: int) -> bytes:
            given = text(inputs, OPTIONS, row)
            read = read_json_options(declared, given) if given else read_options(declared, {})
            return to_json(await self.operation.run(resources, audio, read))

        rows = recordings(inputs)
        answers = await asyncio.gather(*(one(audio, row) for row, audio in enumerate(rows)))
        return [bytes_tensor(ANSWER, answers, (len(rows), 1))]


def operation_model(triton_model: str) -> type[OperationModel]:
    """Return the class that Triton runs as the model of that name.

    Raises:
        StopIteration: no operation has a model of that name.
    """
    operation = next(each for each in SERVED if each.declared.triton_model == triton_model)
    return type("TritonPythonModel", (OperationModel,), {"operation": operation})
