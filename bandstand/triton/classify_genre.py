"""`classify_genre`: encoded audio to the answer of `POST /predict`, inside Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bandstand.errors import MalformedRequestError
from bandstand.pipelines.genre import DEFAULT_TOP_K, GenrePipeline
from bandstand.triton.audio_model import AudioModel, bytes_tensor, recordings, text
from bandstand.triton.audio_models import ANSWER, OPTIONS
from bandstand.triton.served_models import ServedModels, ServedVersions


class GenreOptions(BaseModel):
    """The JSON of the input `options`, as in a request over HTTP."""

    model_config = ConfigDict(extra="forbid")

    model_name: Annotated[str, Field(max_length=64)] | None = None
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=1000)


class TritonPythonModel(AudioModel):
    """Decodes, asks the model by its name in this server, joins its answers."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """See `AudioModel`."""
        super().initialize(args)
        self._versions = ServedVersions(self.repository)

    async def answer(self, inputs: Mapping[str, Any], request_id: str) -> list[Any]:
        """Return `answer`: JSON, a row a recording."""
        pipeline = GenrePipeline(self.preparation, ServedModels(self._versions, request_id))

        async def one(audio: bytes, row: int) -> bytes:
            options = _options(text(inputs, OPTIONS, row))
            answer = await pipeline.predict(audio, model=options.model_name, top_k=options.top_k)
            return answer.model_dump_json().encode()

        rows = recordings(inputs)
        answers = await asyncio.gather(*(one(audio, row) for row, audio in enumerate(rows)))
        return [bytes_tensor(ANSWER, answers, (len(rows), 1))]


def _options(given: str | None) -> GenreOptions:
    if given is None:
        return GenreOptions()
    try:
        return GenreOptions.model_validate_json(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the JSON"
        raise MalformedRequestError(f"options: {where}: {first['msg']}") from error
