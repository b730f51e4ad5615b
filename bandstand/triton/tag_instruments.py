"""`tag_instruments`: encoded audio to the answer of `POST /detect/instruments`, inside Triton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandstand.pipelines.answers import InstrumentsAnswer
from bandstand.pipelines.instruments import InstrumentsPipeline
from bandstand.pipelines.options import InstrumentsOptions
from bandstand.triton.audio_model import AudioModel, answer_rows, options
from bandstand.triton.served_models import ServedModels


class TritonPythonModel(AudioModel):
    """Decodes, asks the best model that this server has, joins its answers."""

    async def answer(self, inputs: Mapping[str, Any], request_id: str) -> list[Any]:
        """Return `answer`: JSON, a row a recording."""
        models = ServedModels(self.versions, request_id)
        pipeline = InstrumentsPipeline(self.preparation, models, self.catalogue)

        async def one(audio: bytes, row: int) -> InstrumentsAnswer:
            asked = options(inputs, row, InstrumentsOptions)
            return await pipeline.detect(audio, model=asked.model_name, threshold=asked.threshold)

        return await answer_rows(inputs, one)
