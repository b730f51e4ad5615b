"""The page of a load test needs no other files and has the measured figures; so has its JSON."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY, generate_latest

from bandstand.errors import UnusableRequestError
from bandstand.telemetry import BATCH_ROWS
from bandstand_loadtest.clips import ClipStatistics
from bandstand_loadtest.machine import Machine
from bandstand_loadtest.page import check_can_write, page
from bandstand_loadtest.report import Report
from bandstand_loadtest.runs import Run, measure_run
from bandstand_loadtest.samples import Log, Sample
from bandstand_loadtest.targets.base import Answer, Counters, ServerMetadata
from bandstand_loadtest.targets.prometheus import read_counters
from tests.load_tests import clips, plan

PLAN = plan(seconds=10, fewest=50, p99_ms=400)
_EMPTY = {"meta", "br", "link", "img"}


def answered(count: int, slowest_ms: float) -> Log:
    """Return a log of that many answers, one a tenth of a second, slower and slower."""
    log = Log(wall_seconds=count / 10, own_cpu_seconds=0.1)
    for i, latency in enumerate(np.geomspace(20, slowest_ms, count) / 1e3):
        timings = {
            "decode": 4.0,
            "front_end": 9.0,
            "prepare": 13.0,
            "inference": 3.0,
            "total": 18.0,
        }
        answer = Answer("jazz", {"jazz": 1.0}, timings)
        due = i / 10
        log.samples.append(Sample(clips()[i % 3], due, due, due + latency, answer))
    return log


def run(scenario: str, slowest_ms: float, **load: float | int | bool) -> Run:
    counted = Counters({"1": 30, "2": 12, "3-4": 5})
    return measure_run(scenario, answered(60, slowest_ms), counted, PLAN.bounds, **load)  # type: ignore[arg-type]


@pytest.fixture
def report() -> Report:
    runs = [
        run("single-stream", 60, in_flight=1),
        *(run("sweep", 60 * n, in_flight=n) for n in (1, 2, 4)),
        run("offline", 300, in_flight=16),
        run("server", 900, rate=20.0, probe=True),
        run("server", 300, rate=10.0, probe=True),
        run("server", 320, rate=10.0),
    ]
    return Report(
        started="2026-01-01 12:00 UTC",
        command="bandstand bench all --server 'http://<host>'",
        server=ServerMetadata("http://host:3000", "HTTP", "1.2.3", "genre_features", "onnxruntime"),
        same_host=True,
        machine=Machine.here(),
        clips=ClipStatistics.of(clips()),
        plan=PLAN,
        runs=runs,
        searched=True,
        highest_rate=10.0,
    )


class _Checked(HTMLParser):
    """Reads a page and notes what is not well-formed, what it would load, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.charts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _EMPTY:
            self.open.append(tag)
        self.charts += tag == "svg"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data"):
                (self.refers if str(value).startswith("#") else self.loads).append(str(value))
            elif name == "id":
                self.ids.append(str(value))
            else:
                self.refers += re.findall(r"url\((#[^)]*)\)", str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def test_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    text = page(report)
    checked = _Checked()
    checked.feed(text)
    assert (checked.faults, checked.open, checked.loads) == ([], [], [])
    assert len(checked.ids) == len(set(checked.ids))
    assert {reference[1:] for reference in checked.refers} <= set(checked.ids)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)
    assert "<script" not in text
    # Curve, search, stages; latency and batches of: single stream, two of the sweep, two others.
    assert checked.charts == 3 + 2 * 5


def test_page_takes_its_colours_from_the_style_alone(report: Report) -> None:
    text = page(report)
    body = text.partition("</style>")[2]
    assert re.findall(r"#[0-9a-f]{6}\b", body) == []
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", body))
    for block in re.findall(r":root \{.*?\}", text, re.DOTALL):
        assert used - {"--font"} <= set(re.findall(r"(--[a-z0-9-]+):", block))


def test_page_says_what_was_measured(report: Report) -> None:
    text = page(report)
    for told in ("passed", "1.2.3", "hops and waiting", "front end", "3 wav", "&lt;host&gt;"):
        assert told in text
    assert "<host>" not in text


def test_a_missed_bound_is_told_first(report: Report) -> None:
    failed = replace(report, runs=[*report.runs, run("server", 900, rate=30.0)])
    assert report.passed
    assert not failed.passed
    (miss,) = failed.misses
    assert miss.startswith("server, 30 a second: server, p99 latency ")
    assert miss in page(failed).partition('class="tiles"')[0]


def test_no_rate_found_fails_a_search(report: Report) -> None:
    assert replace(report, highest_rate=None).misses == [
        "no rate was found within the bounds and confirmed"
    ]


def test_json_has_every_figure_and_no_infinity(report: Report, tmp_path: Path) -> None:
    unanswered = measure_run("server", Log(), Counters(), PLAN.bounds, rate=1.0)
    path = tmp_path / "report.json"
    replace(report, runs=[*report.runs, unanswered]).write_json(path)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["format"] == 1
    assert content["passed"] is False
    first = content["runs"][0]
    assert first["latency_ms"]["p50"] == pytest.approx(np.geomspace(20, 60, 60)[29])
    assert first["requests_per_second"] == pytest.approx(60 / first["seconds"])
    assert first["batches"] == {"1": 30, "2": 12, "3-4": 5}
    assert {check["name"]: check["holds"] for check in first["checks"]}["failed requests"]
    assert content["runs"][-1]["latency_ms"] is None


def test_page_without_answers_can_be_read(report: Report) -> None:
    unanswered = measure_run("sweep", Log(), Counters(), PLAN.bounds, in_flight=2)
    empty = replace(report, runs=[unanswered, unanswered], searched=False)
    checked = _Checked()
    checked.feed(page(empty))
    assert (checked.faults, checked.open, checked.charts) == ([], [], 0)


def test_every_text_is_escaped(report: Report) -> None:
    """Names of models and servers come from elsewhere, and are no part of the page's markup."""
    hostile = "<b onload=x>&"
    server = ServerMetadata(hostile, hostile, hostile, hostile, hostile)
    text = page(replace(report, server=server, command=hostile, started=hostile))
    assert hostile not in text
    assert text.count("&lt;b onload=x&gt;&amp;") == 9


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_what_a_page_needs_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnusableRequestError, match=rf"{missing}.*bandstand\[bench\]"):
        check_can_write()


def test_batches_are_read_from_the_servers_own_histogram() -> None:
    def read() -> Counters:
        return read_counters(generate_latest(REGISTRY).decode(), "a_model")

    BATCH_ROWS.labels("another_model").observe(1)
    assert read() == Counters()
    BATCH_ROWS.labels("a_model").observe(1)
    before = read()
    for rows in (1, 2, 3, 4, 64, 100):
        BATCH_ROWS.labels("a_model").observe(rows)
    counted = {size: n for size, n in read().since(before).batches.items() if n}
    assert counted == {"1": 1, "2": 1, "3-4": 2, "33-64": 1, "65+": 1}


def test_batches_are_read_from_tritons_statistics() -> None:
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    from bandstand_loadtest.targets.grpc import read_statistics

    def stats(version: str, sizes: dict[int, int], hits: int, name: str = "m") -> object:
        told = service.ModelStatistics(name=name, version=version)
        told.inference_stats.cache_hit.count = hits
        for size, count in sizes.items():
            batch = told.batch_stats.add(batch_size=size)
            batch.compute_infer.count = count
        return told

    response = service.ModelStatisticsResponse(
        model_stats=[
            stats("1", {8: 2, 1: 5}, 0),
            stats("2", {1: 1}, 0),
            stats("1", {3: 9}, 4, name="another"),
        ]
    )
    assert read_statistics(response, "m") == Counters({"1": 6, "8": 2}, cache_hits=4)
