"""The benchmarks run and report figures; the test does not check the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import PROJECT_ROOT

# Small enough for a test: the whole way of the benchmark with next to no work.
OPTIONS = {
    "overhead": ["--rounds", "1", "--requests", "2", "--no-peers"],
    "endurance": ["--requests", "12", "--concurrency", "4"],
    "host_front_ends": ["--rounds", "1", "--no-keras"],
    "heavy_model": ["--rounds", "1", "--small", "--no-service"],
    "triton_batching": ["--rounds", "1", "--requests", "16", "--width", "64"],
    "perf_analyzer": ["--levels", "1:1", "--window-ms", "500"],
    "gateway_on_triton": ["--rounds", "1", "--requests", "2"],
    "against_peers": ["--rounds", "1", "--waves", "1", "--part", "pipeline", "--small"],
    "sustained": ["--minutes", "0.05", "--rate", "2.5"],
    "hostile_clients": ["--rounds", "1", "--requests", "3"],
    "export_memory": ["--only", "genre_features"],
}
Tables = dict[str, list[list[Any]]]

pytestmark = pytest.mark.release


def start(name: str, results: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *OPTIONS[name], "--results", str(results)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run(name: str, results: Path) -> tuple[int, Tables]:
    """Run a benchmark; return its exit code and the rows of its tables, by title."""
    return read(name, results, start(name, results))


def read(name: str, results: Path, ended: subprocess.CompletedProcess[str]) -> tuple[int, Tables]:
    report = results / f"{name}.json"
    assert report.exists(), ended.stderr[-3000:]
    assert (results / f"{name}.md").read_text() in ended.stdout
    content = json.loads(report.read_text())
    return ended.returncode, {table["title"]: table["rows"] for table in content["tables"]}


@pytest.mark.usefixtures("data_dir")
def test_hostile_clients_are_measured_beside_a_good_one(tmp_path: Path) -> None:
    code, tables = run("hostile_clients", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    answers = {row[0]: row[1] for row in tables["Latency (ms)"]}
    assert answers["good, alone"] == answers["good, beside"] == 3
    assert answers["hostile"] > 0


@pytest.mark.usefixtures("data_dir")
def test_overhead_measures_every_contender(tmp_path: Path) -> None:
    code, tables = run("overhead", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert len(tables["Overhead: CPU ms a request over the pipeline in process"]) == 7
    assert len(tables["CPU ms a request"]) == 9
    for _name, per_second, median, *_ in tables["CPU ms a request"]:
        assert per_second > 0
        assert median > 0
    servers = tables["Servers of the same model side by side"]
    assert len(servers) == 2
    assert all(figure > 0 for row in servers for figure in row[1:])


@pytest.mark.usefixtures("data_dir")
def test_endurance_counts_answers_and_memory(tmp_path: Path) -> None:
    code, tables = run("endurance", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert [row[1] for row in tables["Answers by status"]] == [6, 6]  # 200s
    *processes, total, _proportional = tables["Memory (USS, MiB)"]
    assert len(processes) >= 4  # supervisor, gateway, preprocessor, a runner
    assert all(row[-1] > 0 for row in processes)  # decoders start when they are needed
    assert total[1] == pytest.approx(sum(row[1] for row in processes), rel=0.01)


@pytest.mark.usefixtures("data_dir")
def test_front_ends_take_turns_with_librosa(tmp_path: Path) -> None:
    code, tables = run("host_front_ends", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert len(tables["Goals"]) == 2
    assert len(tables["Milliseconds"]) == 4
    assert all(figure > 0 for row in tables["Milliseconds"] for figure in row[1:])


def test_a_heavy_model_answers_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    _code, tables = run("heavy_model", tmp_path)
    assert [row[0].split()[0] for row in tables["Seconds, medians"]][1] == "onnxruntime"
    for title in ("Seconds, medians", "Memory of the whole process (MiB)"):
        assert len(tables[title]) == 2
        assert all(figure > 0 for row in tables[title] for figure in row[1:])


def test_an_exports_memory_is_that_of_its_report(tmp_path: Path) -> None:
    code, tables = run("export_memory", tmp_path)
    ((name, weights, gigabytes, graph, proof, whole, cpu, _megabytes),) = tables["Exports"]
    assert (code, name, weights) == (0, "genre_features", "shipped")
    assert 0.1 < gigabytes < 6
    assert 0 < graph <= whole
    assert 0 < proof <= whole
    assert cpu > 0


def test_batching_is_told_by_the_servers_statistics(tmp_path: Path) -> None:
    code, tables = run("triton_batching", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert len(tables["Goals"]) == 4
    asked = {
        (level, name): per_second
        for level, name, per_second, *_ in tables["Requests of one row over gRPC"]
    }
    assert asked.keys() == {(level, n) for level in (1, 4, 16) for n in ("batched", "unbatched")}
    assert all(per_second > 0 for per_second in asked.values())
    for level, name, *batches in tables["Batches run, by their size"]:
        if name == "unbatched" or level == 1:
            assert batches[0] == 16  # a request each
            assert not any(batches[1:])


def test_perf_analyzer_measures_the_same_server(tmp_path: Path) -> None:
    ended = start("perf_analyzer", tmp_path)
    if ended.returncode and "perf_analyzer" in ended.stderr.splitlines()[-1]:
        pytest.skip(ended.stderr.splitlines()[-1])  # it cannot be had, or does not run here
    code, tables = read("perf_analyzer", tmp_path, ended)
    ((concurrency, per_second, *milliseconds),) = tables["One row a request"]
    assert (code, concurrency) == (0, 1)
    assert per_second > 0
    assert all(figure > 0 for figure in milliseconds)


@pytest.mark.usefixtures("data_dir")
def test_both_gateways_answer_the_same_load(tmp_path: Path) -> None:
    code, tables = run("gateway_on_triton", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    rows = tables["Both gateways"]
    assert [row[1] for row in rows] == ["embedded", "on Triton"] * 2
    assert [row[-1] for row in rows] == [2, 2, 10, 10]
    assert all(figure > 0 for row in rows for figure in row[2:])


@pytest.mark.usefixtures("data_dir")
def test_a_peer_serves_the_checkpoint_that_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    code, tables = run("against_peers", tmp_path)
    assert code == int(any(row[-1] == "missed" for row in tables["Goals"]))
    assert len(tables["Goals"]) == 6  # rate, CPU time and p99 at both levels
    rows = tables["genre_wav2vec2, 10 s, side by side"]
    assert [row[-2] for row in rows] == [8, 8, 32, 32]
    assert all(figure > 0 for row in rows for figure in row[2:])


@pytest.mark.usefixtures("data_dir")
def test_a_sustained_run_is_at_80_percent_of_the_highest_rate(tmp_path: Path) -> None:
    _code, tables = run("sustained", tmp_path)
    goals = {what: (measured, state) for what, measured, _, state in tables["Goals"]}
    assert goals["requests failed"] == (0, "met")
    assert goals["answers with another label than in process"] == (0, "met")
    assert tables["The run"][1] == ["rate of the run, requests/s", 2.0]
    *processes, total = tables["Memory in each tenth of the run (USS, MiB, median)"]
    assert len(processes) >= 4  # supervisor, gateway, preprocessor, a runner
    assert total[1] > 0
