"""`classify_genre`: encoded audio to the answer of `POST /predict`, inside Triton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandstand.pipelines.answers import GenreAnswer
from bandstand.pipelines.genre import GenrePipeline
from bandstand.pipelines.options import GenreOptions
from bandstand.triton.audio_model import AudioModel, answer_rows, options
from bandstand.triton.served_models import ServedModels


class TritonPythonModel(AudioModel):
    """Decodes, asks the model by its name in this server, joins its answers."""

    async def answer(self, inputs: Mapping[str, Any], request_id: str) -> list[Any]:
        """Return `answer`: JSON, a row a recording."""
        models = ServedModels(self.versions, request_id)
        pipeline = GenrePipeline(self.preparation, models, self.catalogue)

        async def one(audio: bytes, row: int) -> GenreAnswer:
            asked = options(inputs, row, GenreOptions)
            return await pipeline.predict(audio, model=asked.model_name, top_k=asked.top_k)

        return await answer_rows(inputs, one)
