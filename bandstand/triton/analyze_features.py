"""`analyze_features`: encoded audio to the answer of `POST /analyze/features`, inside Triton."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bandstand.models.card import get_card
from bandstand.pipelines.features import FeaturesPipeline
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.triton.audio_model import AudioModel, bytes_tensor, recordings
from bandstand.triton.audio_models import ANSWER


class TritonPythonModel(AudioModel):
    """Decodes and computes; no model takes part."""

    async def answer(self, inputs: Mapping[str, Any], _request_id: str) -> list[Any]:
        """Return `answer`: JSON, a row a recording."""
        pipeline = FeaturesPipeline(self.preparation, get_card(DEFAULT_MODEL))
        rows = recordings(inputs)
        answers = await asyncio.gather(*map(pipeline.analyze, rows))
        encoded = [answer.model_dump_json().encode() for answer in answers]
        return [bytes_tensor(ANSWER, encoded, (len(rows), 1))]
