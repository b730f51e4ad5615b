"""Latency counts from the due time; a run reports failures, wrong answers and a slow generator."""

from __future__ import annotations

import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from bandstand.errors import UnusableRequestError
from bandstand.settings import get_settings
from bandstand_loadtest.clips import Clip, Reference, load_clips
from bandstand_loadtest.generate import closed_loop, open_loop
from bandstand_loadtest.runs import Bounds, measure_run
from bandstand_loadtest.samples import Sample
from bandstand_loadtest.targets.base import Counters, RequestFailedError
from bandstand_loadtest.targets.connect import open_target
from tests.load_tests import clips, load_test, plan
from tests.paced_server import genre, paced_server

WORK_SECONDS = 0.02


def ignore(_sample: Sample) -> None:
    pass


async def test_waiting_behind_slow_answers_counts_as_latency() -> None:
    """Twice as many requests come as get done: each waits for all those before it."""
    arrivals = np.arange(30) * WORK_SECONDS / 2
    with paced_server(WORK_SECONDS) as server:
        async with open_target(server.url, "genre_features") as target:
            log = await open_loop(target, cycle(clips()), arrivals, ignore, lambda: True)
    assert len(log.answered) == 30
    # The k-th answer cannot be there before k + 1 recordings were worked on.
    for k, sample in enumerate(sorted(log.samples, key=lambda sample: sample.finished)):
        first_due = min(s.due for s in log.samples)
        assert sample.finished - first_due >= (k + 1) * WORK_SECONDS * 0.99
    last = max(log.samples, key=lambda sample: sample.due)
    assert last.latency >= 0.99 * (30 * WORK_SECONDS - arrivals[-1])
    assert server.most_waiting > 5  # nobody waited for an answer before sending the next


async def test_a_lagging_generator_is_charged_with_its_delay_and_reported() -> None:
    stalls = iter([0.2])

    def stall(_sample: Sample) -> None:
        time.sleep(next(stalls, 0.0))

    arrivals = np.arange(20) * 0.01
    with paced_server() as server:
        async with open_target(server.url, "genre_features") as target:
            log = await open_loop(target, cycle(clips()), arrivals, stall, lambda: True)
    late = [sample for sample in log.samples if sample.lateness > 0.05]
    assert late
    assert all(sample.latency >= sample.lateness for sample in log.samples)
    run = measure_run("server", log, Counters(), Bounds(late_share=0.01), rate=100.0)
    assert run.generator.worst_late_ms > 50
    assert [check.name for check in run.checks if not check.holds][:1] == ["share sent late"]


@pytest.mark.parametrize("in_flight", [1, 4])
async def test_a_closed_loop_keeps_so_many_under_way(in_flight: int) -> None:
    sent = iter(clips(24))
    with paced_server(0.005, at_once=8) as server:
        async with open_target(server.url, "genre_features") as target:
            log = await closed_loop(target, sent, in_flight, ignore, lambda: True)
    assert len(log.answered) == 24
    assert server.most_waiting == in_flight


async def test_stages_add_up_to_the_latency() -> None:
    with paced_server(WORK_SECONDS) as server:
        async with load_test(server.url, plan()) as test:
            run = await test.single_stream()
    assert run.latency_ms is not None
    means = {stage.name: stage.mean for stage in run.stages}
    assert list(means) == ["decode", "inference", "hops and waiting", "outside"]
    assert sum(means.values()) == pytest.approx(run.latency_ms.mean)
    assert means["hops and waiting"] == pytest.approx(1.0)  # 4 in all, 1 and 2 of them named
    assert sum(run.latency_ms.counts) == run.requests
    assert run.latency_ms.edges[0] <= run.latency_ms.p50 <= run.latency_ms.edges[-1]


async def test_failed_requests_fail_a_run_and_are_named() -> None:
    number = iter(range(1000))

    def every_third_is_refused(_content: bytes) -> tuple[int, dict[str, object]]:
        if next(number) % 3 == 0:
            return 429, {"error": "no", "error_type": "overloaded"}
        return 200, genre("jazz")

    with paced_server(answers=every_third_is_refused) as server:
        async with load_test(server.url, plan(fewest=9, seconds=0.01)) as test:
            run = await test.single_stream()
    assert run.errors.keys() == {"overloaded"}
    assert run.answered + run.errors["overloaded"] == run.requests  # none was sent twice
    assert not run.holds


async def test_nothing_answered_is_a_miss_and_no_division_by_zero() -> None:
    with paced_server(answers=lambda _content: (500, {})) as server:
        async with load_test(server.url, plan(p99_ms=1e6)) as test:
            run = await test.server(50.0)
            with pytest.raises(RequestFailedError):
                await test.warm_up()
    assert (run.answered, run.latency_ms, run.requests_per_second) == (0, None, 0.0)
    misses = {check.name for check in run.checks if not check.holds}
    assert {"failed requests", "p99 latency", "share of right labels"} <= misses


async def test_wrong_answers_fail_a_run_that_is_fast() -> None:
    wrong = Clip("wrong.wav", b"wrong", Reference("rock", {"jazz": 0.25, "rock": 0.75}, 2.0, 1))
    near = Clip("near.wav", b"near", Reference("jazz", {"jazz": 0.9}, 2.0, 1))
    with paced_server() as server:
        for recordings, share, difference, worst in (
            ([near], 1.0, 0.1, "near.wav"),
            ([near, wrong], 0.5, 1.0, "wrong.wav"),  # other labels: as different as can be
        ):
            async with load_test(server.url, plan(seconds=0, fewest=4), recordings) as test:
                run = await test.offline(1)
            assert run.accuracy.equal_share == share
            assert run.accuracy.largest_difference == pytest.approx(difference)
            assert run.accuracy.worst_clip == worst
            assert run.holds == (share == 1.0)


async def test_nan_is_as_wrong_as_can_be() -> None:
    nan = genre("jazz") | {"all_scores": {"jazz": float("nan")}}
    with paced_server(answers=lambda _content: (200, nan)) as server:
        async with load_test(server.url, plan(seconds=0, fewest=3)) as test:
            run = await test.single_stream()
    assert run.accuracy.largest_difference == 1.0


async def test_a_server_that_answers_from_its_cache_is_refused() -> None:
    with paced_server(answers=lambda _content: (200, genre("jazz", decode_ms=0.0))) as server:
        async with load_test(server.url, plan()) as test:
            with pytest.raises(UnusableRequestError, match="--allow-cache"):
                await test.warm_up()
            run = await test.single_stream()
        assert run.cache_hits == run.requests
        assert "answers from caches" in {check.name for check in run.checks if not check.holds}
        async with load_test(server.url, plan(allow_cache=True)) as test:
            await test.warm_up()
            assert (await test.single_stream()).holds


async def test_another_version_of_the_model_is_refused() -> None:
    newer = Clip("new.wav", b"new", Reference("jazz", {"jazz": 1.0}, 2.0, version=2))
    with paced_server() as server:
        async with load_test(server.url, plan(), [newer]) as test:
            with pytest.raises(UnusableRequestError, match=r"version 1 .* version 2"):
                await test.warm_up()


async def test_offline_works_through_whole_passes() -> None:
    with paced_server(at_once=8) as server:
        async with load_test(server.url, plan(seconds=0, fewest=8)) as test:
            run = await test.offline(4)
    assert run.requests == 9
    assert run.audio_seconds == 18.0
    assert run.audio_seconds_per_second == pytest.approx(18.0 / run.seconds)


async def test_no_server_is_a_failed_request_with_its_cause() -> None:
    with paced_server() as server:
        url = server.url
    async with open_target(url, "genre_features") as target:
        with pytest.raises(RequestFailedError) as refused:
            await target.classify(b"audio")
    assert refused.value.error_type == "connection_failed"
    assert refused.value.__cause__ is not None


async def test_a_recording_that_cannot_be_answered_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    with pytest.raises(UnusableRequestError, match=r"bad\.wav"):
        await load_clips([bad], None, get_settings())


async def test_references_are_made_once_a_content(samples_dir: Path, tmp_path: Path) -> None:
    sample = samples_dir / "string_minuet.flac"
    copy = tmp_path / "copy.flac"
    copy.write_bytes(sample.read_bytes())
    told: list[None] = []
    one, other = await load_clips([sample, copy], None, get_settings(), lambda: told.append(None))
    assert one.reference is other.reference
    assert one.reference.primary == max(one.reference.scores, key=one.reference.scores.__getitem__)
    assert len(told) == 2
