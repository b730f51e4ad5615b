"""Content of strangers cannot take the memory, the time or the life of a process that serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bandstand.audio import decoder as decoder_module
from bandstand.audio.decode import Decoded, DecodeLimits, OutputFormat, decode
from bandstand.audio.decoder_pool import DecoderPool, decode_here
from bandstand.audio.decoder_process import MEMORY_BYTES
from bandstand.errors import AudioTooLongError, BandstandError, NotAudioError, UndecodableAudioError
from bandstand.pipelines import guarded
from bandstand.pipelines.guarded import GuardedPreparation
from bandstand.settings import Settings
from harness import PROJECT_ROOT
from harness.audio_files import encode_with_ffmpeg, tone
from harness.cards import get_card
from harness.hostile_media import (
    good_media,
    m4a_that_claims,
    matroska_with_packets_of_nothing,
    mp3_with_inflating_pictures,
    silence,
)

LIMITS = DecodeLimits.from_settings(Settings())
MONO = OutputFormat(1, 22_050)
Preparing = Callable[..., GuardedPreparation]


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool()
    yield pool
    pool.close()


@pytest.fixture
def preparing() -> Iterator[Preparing]:
    """Make preparations, and close them."""
    with ExitStack() as stack:

        def make(threads: int, limits: DecodeLimits = LIMITS) -> GuardedPreparation:
            preparation = GuardedPreparation(limits, threads)
            stack.callback(preparation.close)
            return preparation

        yield make


def decoded(pool: DecoderPool, content: bytes, limits: DecodeLimits = LIMITS) -> Decoded:
    return pool.decode(content, limits, (MONO,))


def decoders(parent: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(parent).children()
    return [each for each in children if "bandstand.audio.decoder_process" in each.cmdline()]


def peak_bytes(process: psutil.Process) -> int:
    """Return the most memory that a process had so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize("name", good_media())
def test_what_a_process_decodes_is_what_is_decoded_here(name: str, pool: DecoderPool) -> None:
    wanted = (MONO, OutputFormat(2, 16_000), OutputFormat(1, 44_100))
    there = pool.decode(good_media()[name], LIMITS, wanted)
    here = decode_here(good_media()[name], LIMITS, wanted)
    for each in wanted:
        np.testing.assert_array_equal(there.waveforms[each].samples, here.waveforms[each].samples)
        assert there.waveforms[each].samples.flags.c_contiguous
    assert replace(there.recording, resample_ms=[]) == replace(here.recording, resample_ms=[])


def test_a_refusal_is_the_same_as_here(pool: DecoderPool) -> None:
    for content in (b"", b"text", bytes(100_000), good_media()["wav"][:30]):
        with pytest.raises(BandstandError) as here:
            decode(content, LIMITS)
        with pytest.raises(type(here.value), match=str(here.value)[:20]):
            decoded(pool, content)


@pytest.mark.parametrize(
    "content",
    [
        m4a_that_claims(1 << 26),  # 2.4 GB of index
        m4a_that_claims(1 << 20, tracks=100),
        mp3_with_inflating_pictures(40, 20),  # 800 MB of pictures
    ],
    ids=["one table", "many tables", "pictures"],
)
def test_a_container_that_lies_takes_bounded_memory(content: bytes, pool: DecoderPool) -> None:
    assert len(content) < 1_000_000
    decoded(pool, good_media()["m4a"])
    before = peak_bytes(decoders()[0])
    with contextlib.suppress(NotAudioError, UndecodableAudioError):
        decoded(pool, content)
    assert peak_bytes(decoders()[0]) < before + MEMORY_BYTES + 16 * 2**20
    assert decoded(pool, good_media()["m4a"]).recording.duration_seconds > 2.9


def test_packets_that_bring_nothing_are_given_up(pool: DecoderPool) -> None:
    """A few are passed over, as players do; after thousands, what follows is not decoded."""
    few = decoded(pool, matroska_with_packets_of_nothing(100)).recording
    assert few.truncated
    assert few.duration_seconds == pytest.approx(2.0, abs=0.1)
    many = decoded(pool, matroska_with_packets_of_nothing(10_000)).recording
    assert many.truncated
    assert many.duration_seconds == pytest.approx(1.0, abs=0.1)


def test_a_decode_ends_at_its_own_deadline(pool: DecoderPool) -> None:
    limits = replace(LIMITS, cpu_seconds=1e-6)
    slow = encode_with_ffmpeg(tone(1, 44_100), 44_100, "mp4", "aac")
    with pytest.raises(UndecodableAudioError, match="too long"):
        decode(slow, limits)
    with pytest.raises(UndecodableAudioError, match="too long"):
        decoded(pool, slow, limits)


def test_work_before_the_first_packet_has_the_deadline_too(pool: DecoderPool) -> None:
    """Pictures are inflated while the file is opened, where the decoder cannot look at a clock."""
    busy = mp3_with_inflating_pictures(20_000, 1)
    with pytest.raises(UndecodableAudioError, match="given up"):
        decoded(pool, busy, replace(LIMITS, cpu_seconds=0.1))
    assert decoded(pool, good_media()["mp3"]).recording.duration_seconds > 2.9


def test_a_long_recording_at_192_khz_is_never_whole_in_memory(pool: DecoderPool) -> None:
    content = silence(300, 192_000)  # 230 MB at its own rate
    result = decoded(pool, content)
    assert result.recording.count == 300 * 192_000
    assert len(result.waveforms[MONO].samples) == 300 * 22_050
    assert peak_bytes(decoders()[0]) < 120 * 2**20


async def test_long_recordings_leave_a_thread_for_others(
    preparing: Preparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two long ones would take both threads for seconds."""
    monkeypatch.setattr(guarded, "LONG_BYTES", 1 << 20)  # 12 s
    preparation = preparing(2)
    card = get_card("genre_features")
    long = silence(120, 4_000)
    slow = [asyncio.create_task(preparation.prepare(long, (card,))) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(5):
        prepared = await preparation.prepare(good_media()["mp3"], (card,))
        assert prepared.audio.duration_seconds > 2.9
    assert not all(each.done() for each in slow)
    for each in await asyncio.gather(*slow):
        assert each.audio.duration_seconds == 120


def test_a_warm_preparation_has_a_decoder_for_each_thread(preparing: Preparing) -> None:
    before = len(decoders())
    preparing(2).warm_up(get_card("genre_features"))
    assert len(decoders()) == before + 2


async def test_clients_have_their_turns_in_a_circle(preparing: Preparing) -> None:
    """A client with one recording is next after one of each other, not after all of them."""
    preparation = preparing(1)
    card, order = get_card("genre_features"), []

    async def one(client: str) -> None:
        await preparation.prepare(good_media()["wav"], (card,), client=client)
        order.append(client)

    many = [asyncio.create_task(one("many")) for _ in range(8)]
    await asyncio.sleep(0)
    await asyncio.gather(one("single"), *many)
    assert order.index("single") <= 2


async def test_a_cancelled_preparation_keeps_its_turn_until_its_thread_ends(
    preparing: Preparing,
) -> None:
    preparation = preparing(1)
    card = get_card("genre_features")
    began = asyncio.Event()

    async def check() -> None:
        began.set()

    cancelled = asyncio.create_task(preparation.prepare(silence(60, 4_000), (card,), check))
    await began.wait()
    await asyncio.sleep(0)  # now its thread runs
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert preparation.running == 1
    await preparation.prepare(good_media()["wav"], (card,))
    assert preparation.running == 0


async def test_too_long_is_too_long_whether_or_not_long_is_allowed(preparing: Preparing) -> None:
    preparation = preparing(1, replace(LIMITS, max_seconds=2.0))
    with pytest.raises(AudioTooLongError, match="longer than the 2 s"):
        await preparation.prepare(good_media()["mp3"], (get_card("genre_features"),))
    preparation = preparing(1)
    with pytest.raises(AudioTooLongError, match="longer than the 900 s"):
        await preparation.prepare(silence(1000, 4_000), (get_card("genre_features"),))


def kill_once(monkeypatch: pytest.MonkeyPatch, times: int) -> Callable[[], int]:
    """Kill decoder processes when they have got their recording; return how many were killed."""
    killed: list[int] = []
    wait = decoder_module.Decoder._wait

    def kill_and_wait(self: decoder_module.Decoder, job: decoder_module.Job) -> object:
        if len(killed) < times:
            killed.append(self._process.pid)
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        return wait(self, job)

    monkeypatch.setattr(decoder_module.Decoder, "_wait", kill_and_wait)
    return lambda: len(killed)


def test_a_decoder_killed_at_work_is_replaced(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kill_once(monkeypatch, 1)
    content = silence(600, 48_000)
    assert decoded(pool, content).recording.count == 600 * 48_000
    assert killed() == 1


def test_content_that_takes_decoders_down_is_refused(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_once(monkeypatch, 2)
    content = silence(600, 48_000)
    with pytest.raises(NotAudioError, match="decoder failed"):
        decoded(pool, content)
    assert decoded(pool, content).recording.count == 600 * 48_000


def test_a_decoder_killed_while_idle_is_replaced(pool: DecoderPool) -> None:
    decoded(pool, good_media()["mp3"])
    [idle] = decoders()
    idle.kill()
    assert decoded(pool, good_media()["mp3"]).recording.duration_seconds > 2.9


def test_ctrl_c_leaves_decoders_to_their_parent(pool: DecoderPool) -> None:
    decoded(pool, good_media()["mp3"])
    before = decoders()
    before[0].send_signal(signal.SIGINT)
    decoded(pool, good_media()["mp3"])
    assert decoders() == before


def test_a_decoder_that_hangs_is_replaced(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded(pool, good_media()["mp3"])
    [idle] = decoders()
    idle.suspend()
    monkeypatch.setattr(decoder_module, "_MOST_SECONDS", 0.5)
    with pytest.raises(UndecodableAudioError, match="given up"):
        decoded(pool, good_media()["mp3"])
    monkeypatch.undo()
    assert decoded(pool, good_media()["mp3"]).recording.duration_seconds > 2.9
    assert not idle.is_running()


def test_a_decoder_has_no_settings_and_no_keys(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANDSTAND_ADMIN_KEY", "an administrator's secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    decoded(pool, good_media()["mp3"])
    environment = Path(f"/proc/{decoders()[0].pid}/environ").read_bytes()
    assert environment
    assert b"secret" not in environment
    assert b"BANDSTAND_" not in environment


PARENT = """
import sys, time
from bandstand.audio.decode import DecodeLimits, OutputFormat
from bandstand.audio.decoder_pool import DecoderPool
from bandstand.pipelines import guarded
from bandstand.pipelines.guarded import GuardedPreparation
from bandstand.settings import Settings
pool = DecoderPool()
limits = DecodeLimits.from_settings(Settings())
pool.decode(open(sys.argv[1], "rb").read(), limits, (OutputFormat(1, 22050),))
print("decoded", flush=True)
sys.stdin.read()
"""


def test_decoders_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.write_bytes(good_media()["mp3"])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(recording)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"decoded\n"
        left = decoders(parent.pid)
        assert len(left) == 1
        parent.kill()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []
