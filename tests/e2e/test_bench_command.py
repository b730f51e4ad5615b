"""`bandstand bench` against a real server: every scenario, its report, and what fails it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandstand.triton.server import TritonServer
from bandstand_cli.app import app
from harness.serving import Server
from tests.paced_server import Answers, genre, paced_server

# Short, and how busy this machine is fails nothing.
QUICK = ["--seconds", "0.5", "--requests", "4", "--late-share", "1", "--p99-ms", "60000"]


def bench(*arguments: str | Path) -> tuple[int, str, str]:
    environment = {"COLUMNS": "160"}
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)], env=environment)
    return result.exit_code, result.stdout, result.stderr


def test_every_scenario_against_a_real_server(uncached_server: Server, tmp_path: Path) -> None:
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    options = ["--rate", "4", "--levels", "1,3", "--in-flight", "4", "--json", report]
    code, output, errors = bench(
        "all", "--server", uncached_server.url, *QUICK, *options, "--html", page
    )
    assert (code, errors) == (0, "")
    assert "passed" in output
    content = json.loads(report.read_text())
    runs = content["runs"]
    assert [run["scenario"] for run in runs] == [
        *("single-stream", "sweep", "sweep", "offline", "server")
    ]
    for run in runs:
        assert run["answered"] == run["requests"] >= 4
        assert run["errors"] == {}
        assert run["cache_hits"] == 0
        assert run["accuracy"]["equal_share"] == 1.0
        assert run["accuracy"]["largest_difference"] < 1e-3
        assert 0 < run["latency_ms"]["p50"] <= run["latency_ms"]["p99"]
        stages = [stage["name"] for stage in run["stages"]]
        assert stages == [
            *("decode", "resample", "cut", "front_end", "inference"),
            *("hops and waiting", "outside"),
        ]
    assert content["clips"]["formats"] == {"flac": 1, "mp3": 1, "ogg": 1}
    assert content["server"]["runtime"].startswith(("onnxruntime", "openvino"))
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert page.read_text().count("<svg") >= 5


def test_triton_over_grpc(triton_server: TritonServer, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    address = f"grpc://{triton_server.grpc_address}"
    options = ["--in-flight", "4", "--json", report]
    code, output, errors = bench("offline", "--server", address, *QUICK, *options)
    assert (code, errors) == (0, "")
    assert "passed" in output
    content = json.loads(report.read_text())
    (run,) = content["runs"]
    assert content["server"]["protocol"] == "gRPC"
    assert run["accuracy"]["equal_share"] == 1.0
    assert run["accuracy"]["largest_difference"] < 1e-3
    assert {"decode", "inference", "outside"} <= {stage["name"] for stage in run["stages"]}
    rows = sum(int(size) * count for size, count in run["batches"].items())
    assert rows == run["answered"]  # each sample is one window


def test_a_server_with_its_cache_on_is_refused_unless_allowed(server_url: str) -> None:
    code, _, errors = bench("single-stream", "--server", server_url, *QUICK)
    assert code == 1
    assert "BANDSTAND_FEATURE_CACHE_ENTRIES=0" in errors
    code, output, _ = bench("single-stream", "--server", server_url, *QUICK, "--allow-cache")
    assert code == 0
    assert "passed" in output


def test_a_missed_bound_is_a_failure(uncached_server: Server) -> None:
    code, output, _ = bench(
        *("server", "--rate", "20", "--server", uncached_server.url, *QUICK[:6], "--p99-ms", "0.1")
    )
    assert code == 1
    assert "p99 latency" in output


def sure_of_polka(_content: bytes) -> tuple[int, dict[str, object]]:
    return 200, genre("polka")


def fails_sometimes() -> Answers:
    """The warm-up is answered; after it every other request fails."""
    number = iter(range(10**6))

    def answers(_content: bytes) -> tuple[int, dict[str, object]]:
        if (n := next(number)) > 6 and n % 2:
            return 500, {"error": "broken", "error_type": "internal_error"}
        return 200, genre("classical")

    return answers


@pytest.mark.parametrize(
    ("answers", "told"),
    [(sure_of_polka, "share of right labels"), (fails_sometimes(), "failed requests")],
    ids=["wrong answers", "errors"],
)
def test_a_server_that_answers_badly_fails(answers: Answers, told: str) -> None:
    with paced_server(0.01, answers) as server:
        code, output, _ = bench("offline", "--server", server.url, *QUICK)
    assert code == 1
    assert told in output
    assert "passed" not in output


def test_no_server_is_told_in_one_line() -> None:
    with paced_server() as server:
        url = server.url
    code, _, errors = bench("single-stream", "--server", url, *QUICK)
    assert code == 1
    assert "connection_failed" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["server"],
        ["sweep", "--find"],
        ["sweep", "--levels", "1,two"],
        ["sweep", "--levels", "0"],
        ["offline", "http://127.0.0.1/song.mp3"],
        ["offline", "no-such-folder"],
        ["single-stream", "--server", "127.0.0.1:3000"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_before_any_work(arguments: list[str]) -> None:
    code, _, errors = bench(*arguments)
    assert code == 2
    assert "Traceback" not in errors


def test_help_has_examples() -> None:
    code, output, _ = bench("--help")
    assert code == 0
    assert output.count("bandstand bench") >= 6


def test_a_page_without_its_packages_names_the_extra_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, output, errors = bench("single-stream", *QUICK, "--html", tmp_path / "page.html")
    assert (code, output) == (1, "")
    assert "bandstand[bench]" in errors
