"""A recording in shared memory is read as it was written, by its own name, and leaves nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bandstand.audio.decode import DecodeLimits
from bandstand.pipelines.prepare import prepare
from bandstand.runners.wire import pack, unpack
from bandstand.settings import Settings
from bandstand_bentos import remote
from bandstand_bentos.handover import (
    RECORDING,
    HandoverError,
    can_hand_over,
    handed_over,
    take_over,
)
from bandstand_bentos.prepared_block import to_block
from bandstand_bentos.remote import FeatureCache, RemotePreparation
from harness import PROJECT_ROOT
from harness.cards import get_card
from harness.recordings import tone

CONTENT = os.urandom(300_000)
LIMITS = DecodeLimits.from_settings(Settings())


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def taken_over(place: dict[str, Any]) -> bytes:
    with take_over(place) as file:
        return file.read()


def test_another_process_reads_what_was_handed_over() -> None:
    with handed_over(CONTENT) as place:
        code = (
            "import sys, hashlib; from bandstand_bentos.handover import take_over\n"
            f"with take_over({place!r}) as file: print(hashlib.sha256(file.read()).hexdigest())"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert run.stdout.strip() == hashlib.sha256(CONTENT).hexdigest()


def test_nothing_stays_behind() -> None:
    before = open_descriptors()
    with handed_over(CONTENT) as place:
        assert taken_over(place) == CONTENT
    assert open_descriptors() == before
    with pytest.raises(HandoverError):
        taken_over(place)


def test_a_number_used_again_is_not_mistaken() -> None:
    with handed_over(CONTENT) as first:
        pass
    with handed_over(b"another recording") as second:
        assert second[RECORDING]["descriptor"] == first[RECORDING]["descriptor"]
        with pytest.raises(HandoverError, match="is not the recording"):
            taken_over(first)


def test_no_other_file_can_be_asked_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with secret.open("rb") as file:
        place = {"process": os.getpid(), "descriptor": file.fileno(), "name": str(secret)}
        with pytest.raises(HandoverError):
            taken_over({RECORDING: place})


@pytest.mark.parametrize("url", [None, "http://preprocessor:3000", "tcp://127.0.0.1:4000"])
def test_a_worker_elsewhere_gets_the_bytes(url: str | None) -> None:
    assert not can_hand_over(url)


async def test_a_worker_that_cannot_see_it_gets_the_bytes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    async def call(block: bytes) -> bytes:
        arrays, metadata = unpack(block)
        asked.append(sorted(arrays))
        if RECORDING in metadata:
            return pack({}, {"error": HandoverError("another container").to_fields()})
        recording = prepare(tone(1), (card,), LIMITS)
        return pack(*to_block(recording, [card.input_specification.key]))

    card = get_card("genre_features")
    preparation = RemotePreparation("preprocessor", call, FeatureCache(0), hand_over=True)
    for _ in range(2):
        recording = await preparation.prepare(CONTENT, (card,))
        assert recording.of(card).inputs["features"].shape == (1, 57)
    assert asked == [[], ["audio"], ["audio"]], "it is tried once, not for every recording"
    assert "through the socket for 60 s: another container" in caplog.text
    now = remote.monotonic()
    monkeypatch.setattr(remote, "monotonic", lambda: now + 61)
    await preparation.prepare(CONTENT, (card,))
    assert asked[3:] == [[], ["audio"]], "it is tried again: the cause may have passed"
