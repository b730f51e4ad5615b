"""`decode_audio`: encoded audio to the inputs of a card's model, for users' ensembles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.triton.audio_model import AudioModel, bytes_tensor, recordings, text
from bandstand.triton.audio_models import CARD, DURATIONS, METADATA, STARTS, WINDOWS
from bandstand.triton.stub import pb_utils


class DecodeAudio(AudioModel):
    """Decodes, resamples, cuts windows, and computes the front end if it is not in the graph."""

    async def answer(self, inputs: Mapping[str, Any], _request_id: str) -> list[Any]:
        """Return `windows` (one in each row), their starts and durations, and `metadata`."""
        (audio,) = recordings(inputs)
        card = self.catalogue.card(text(inputs, CARD, 0) or DEFAULT_MODEL)
        prepared = (await self.preparation.prepare(audio, (card,))).of(card)
        rows = prepared.inputs[card.inputs[0].name]
        metadata = {
            "card": card.name,
            "audio": asdict(prepared.audio),
            "timings_ms": prepared.timings_ms,
        }
        return [
            pb_utils.Tensor(WINDOWS, rows.reshape(len(rows), -1).astype(np.float32, copy=False)),
            pb_utils.Tensor(STARTS, prepared.starts_seconds.astype(np.float32, copy=False)),
            pb_utils.Tensor(DURATIONS, prepared.durations_seconds.astype(np.float32, copy=False)),
            bytes_tensor(METADATA, [json.dumps(metadata).encode()], (1,)),
        ]
