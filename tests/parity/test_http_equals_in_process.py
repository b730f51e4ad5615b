"""A recording gets the same answer from the server as from the pipelines in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandstand.local import LocalBandstand
from bandstand_client.http import Bandstand


async def test_real_recordings(clips: list[Path], server_url: str) -> None:
    async with LocalBandstand() as local:
        for clip in clips:
            here = await local.classify(clip.read_bytes())
            features = await local.analyze_features(clip.read_bytes())
            with Bandstand(server_url) as client:
                there = client.classify(clip)
                assert there.all_scores == pytest.approx(here.all_scores, rel=1e-6, abs=1e-9)
                assert there.audio.sha256 == here.audio.sha256
                served = client.analyze_features(clip).features
                assert served == pytest.approx(features.features, rel=1e-6)
