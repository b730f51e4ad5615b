"""`analyze_features`: encoded audio to the answer of `POST /analyze/features`, inside Triton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bandstand.pipelines.answers import FeaturesAnswer
from bandstand.pipelines.features import FeaturesPipeline
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.triton.audio_model import AudioModel, answer_rows


class TritonPythonModel(AudioModel):
    """Decodes and computes; no model takes part."""

    async def answer(self, inputs: Mapping[str, Any], _request_id: str) -> list[Any]:
        """Return `answer`: JSON, a row a recording."""
        pipeline = FeaturesPipeline(self.preparation, self.catalogue.installable(DEFAULT_MODEL))

        async def one(audio: bytes, _row: int) -> FeaturesAnswer:
            return await pipeline.analyze(audio)

        return await answer_rows(inputs, one)
