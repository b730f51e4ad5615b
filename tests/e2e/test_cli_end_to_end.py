"""The command line as people run it: a process, real recordings, this machine or a server."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from bandstand.frontends.librosa_features import FEATURE_NAMES
from bandstand.pipelines.genre import DEFAULT_MODEL
from harness.cards import get_card

END_SECONDS = 120.0
COMMAND = [sys.executable, "-m", "bandstand_cli"]


def bandstand(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


@pytest.fixture(scope="module")
def recordings(samples_dir: Path) -> list[Path]:
    return sorted(p for p in samples_dir.iterdir() if p.suffix in {".ogg", ".mp3", ".flac"})


@pytest.fixture
def collection(recordings: list[Path], tmp_path: Path) -> Path:
    """Every sample, one file that is no audio, and one that nobody shall look at."""
    directory = tmp_path / "collection"
    for recording in recordings:
        (directory / recording.suffix[1:]).mkdir(parents=True)
        shutil.copy(recording, directory / recording.suffix[1:])
    (directory / "bad.wav").write_bytes(b"this is no audio")
    (directory / "notes.txt").write_text("nor this")
    return directory


def test_one_file_is_shown_as_a_chart(recordings: list[Path]) -> None:
    run = bandstand("classify", recordings[0])
    assert (run.returncode, run.stderr) == (0, "")
    assert recordings[0].name in run.stdout
    for genre in get_card(DEFAULT_MODEL).labels:
        assert genre in run.stdout


@pytest.mark.parametrize("where", ["here", "at a server"])
def test_collection_as_json_lines_past_the_bad_file(
    where: str, collection: Path, recordings: list[Path], request: pytest.FixtureRequest
) -> None:
    server = ["--server", request.getfixturevalue("server_url")] if where != "here" else []
    run = bandstand("classify", collection, "--json", *server)
    assert run.returncode == 1
    lines = {Path(line["path"]).name: line for line in map(json.loads, run.stdout.splitlines())}
    assert lines.keys() == {"bad.wav", *(recording.name for recording in recordings)}
    bad = lines.pop("bad.wav")
    assert bad["error_type"] == "not_audio"
    assert "primary_genre" not in bad
    for line in lines.values():
        assert line["primary_genre"] == max(line["all_scores"], key=line["all_scores"].get)
    assert "bad.wav" in run.stderr
    assert f"1 of {len(recordings) + 1} failed" in run.stderr


def test_here_and_a_server_say_the_same(recordings: list[Path], server_url: str) -> None:
    here = json.loads(bandstand("classify", recordings[0], "--json").stdout)
    there = json.loads(
        bandstand("classify", recordings[0], "--json", "--server", server_url).stdout
    )
    assert there["audio"] == here["audio"]
    assert there["all_scores"] == pytest.approx(here["all_scores"], abs=1e-5)
    assert there["predictions"][0].keys() == here["predictions"][0].keys()


def test_collection_as_a_table_in_the_order_given(recordings: list[Path]) -> None:
    given = [*reversed(recordings)]
    run = bandstand("classify", *given, COLUMNS="300")
    assert (run.returncode, run.stderr) == (0, "")
    shown = [line.split()[0] for line in run.stdout.splitlines()[1:]]
    assert shown == [str(recording) for recording in given]


def test_features_become_one_row_a_recording(recordings: list[Path], tmp_path: Path) -> None:
    table = tmp_path / "features.csv"
    run = bandstand("features", *recordings, "--csv", table)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {str(recording) for recording in recordings}
    assert tuple(rows[0])[1:] == FEATURE_NAMES
    assert all(20 < float(row["tempo"]) < 400 for row in rows)


def test_features_of_one_file_are_explained(recordings: list[Path], server_url: str) -> None:
    run = bandstand("features", recordings[0], "--server", server_url)
    assert run.returncode == 0
    assert "BPM" in run.stdout


def test_url_is_fetched_and_private_addresses_only_when_allowed(
    samples_dir: Path, tmp_path: Path
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    handler = functools.partial(Quiet, directory=str(samples_dir))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    environment = {
        "BANDSTAND_FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
        "BANDSTAND_FETCH_CA_FILE": str(tmp_path / "ca.pem"),
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        files.socket = context.wrap_socket(files.socket, server_side=True)
        thread = threading.Thread(target=files.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"https://127.0.0.1:{files.server_port}/band_groove.ogg"
            refused = bandstand("classify", url, "--json")
            allowed = bandstand("classify", url, "--json", **environment)
        finally:
            files.shutdown()
            thread.join()
    assert (refused.returncode, json.loads(refused.stdout)["error_type"]) == (1, "address_refused")
    assert (allowed.returncode, json.loads(allowed.stdout)["path"]) == (0, url)


def test_models_are_listed_and_shown_with_their_worth(server_url: str) -> None:
    for server in ([], ["--server", server_url]):
        listed = bandstand("models", "list", *server)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert DEFAULT_MODEL in listed.stdout
        content = json.loads(bandstand("models", "show", DEFAULT_MODEL, "--json", *server).stdout)
        assert content["version"] is not None
        assert content["report"]
        shown = bandstand("models", "show", DEFAULT_MODEL, *server)
        assert shown.returncode == 0
        assert "accuracy" in shown.stdout


def test_interrupt_ends_it(recordings: list[Path], tmp_path: Path) -> None:
    for i in range(500):
        (tmp_path / f"{i}.ogg").symlink_to(recordings[0])
    with subprocess.Popen(
        [*COMMAND, "classify", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["primary_genre"]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130
    assert len(output.splitlines()) < 499
    assert "Traceback" not in errors


def test_reader_that_leaves_is_no_error_message(recordings: list[Path], tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"{i}.ogg").symlink_to(recordings[0])
    with subprocess.Popen(
        [*COMMAND, "classify", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(END_SECONDS) == 1
