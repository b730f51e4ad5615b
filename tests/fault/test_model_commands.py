"""`bandstand models pull, export, remove` when hubs, disks, checkpoints and exporters fail.

Each time: one line that says what to do, exit code 1, and the repository as it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandstand.models.catalogue import DRUM_MODEL
from bandstand.models.repository import ModelRepository
from bandstand.settings import get_settings
from bandstand_cli.app import app
from harness.cards import get_card
from tests.file_server import CONTENT, FileServer, serving
from tests.keras_files import sequential, write_keras

BANDSTAND = [sys.executable, "-m", "bandstand_cli"]
DIGEST = sha256(CONTENT).hexdigest()
DRUMS = get_card(DRUM_MODEL)


class Machine:
    """An installation of its own: repository, cache, data folder, and a hub that is the test's."""

    def __init__(self, root: Path, hub: FileServer) -> None:
        self.root = root
        self.hub = hub
        self.repository = ModelRepository(root / "models")
        self.repository.install(DRUMS, {"model.onnx": b"before", "report.json": b"{}"})
        self.weights = root / "data" / "weights"
        self.weights.mkdir(parents=True)
        self.environment = {
            "BANDSTAND_REPOSITORY": str(self.repository.root),
            "BANDSTAND_DATA_DIR": str(root / "data"),
            "BANDSTAND_DOWNLOAD_ATTEMPTS": "1",
            "MODEL_CACHE_DIR": str(root / "cache"),
            "MODEL_URI": "hf://owner/drums/net.h5",
            "MODEL_VERSION": "v9",
            "MODEL_SHA256": DIGEST,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(root / "hub"),
            "COLUMNS": "80",
        }

    def promise(self, content: bytes) -> None:
        self.environment["MODEL_SHA256"] = sha256(content).hexdigest()

    def run(
        self, *arguments: str, before: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *BANDSTAND, "models", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def fails(self, *arguments: str, before: tuple[str, ...] = ()) -> str:
        """Run a command that must fail, and return the line that says why."""
        run = self.run(*arguments, before=before)
        assert run.returncode == 1, run.stderr
        assert "Traceback" not in run.stderr
        assert self.repository.versions(DRUM_MODEL) == (1,)
        assert sorted(p.name for p in self.repository.root.rglob("*")) == [
            ".lock",
            "1",
            DRUM_MODEL,
            "card.json",
            "model.onnx",
            "report.json",
        ]
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
        return line


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with serving(FileServer()) as hub:
        yield Machine(tmp_path, hub)


def test_hubs_that_refuse(machine: Machine) -> None:
    for status, headers, words in (
        (401, {}, "HF_TOKEN"),
        (404, {"X-Error-Message": "Entry not found"}, "check owner, name, revision and file"),
        (429, {"Retry-After": "3600"}, "try again later"),
    ):
        machine.hub.statuses = [(status, headers)]
        line = machine.fails("pull", DRUM_MODEL)
        assert str(status) in line
        assert words in line
        assert line.endswith("[source_unavailable]")
    paths = {path for _, path, _ in machine.hub.requests}
    assert paths == {"/owner/drums/resolve/v9/net.h5"}  # MODEL_URI and MODEL_VERSION


def test_a_hub_that_says_nothing_is_left(machine: Machine) -> None:
    machine.hub.gate = threading.Event()
    machine.environment["BANDSTAND_DOWNLOAD_SILENCE_SECONDS"] = "0.2"
    assert "sent nothing for 0.2 s" in machine.fails("pull", DRUM_MODEL)


def test_other_content_than_promised_is_not_exported(machine: Machine) -> None:
    machine.promise(b"something else")
    assert machine.fails("pull", DRUM_MODEL).endswith("[checksum_mismatch]")


def test_a_full_cache_disk(machine: Machine) -> None:
    limited = ("bash", "-c", 'ulimit -f 1000; exec "$@"', "bash")
    line = machine.fails("pull", DRUM_MODEL, before=limited)
    assert "free some space" in line
    assert line.endswith("[source_unavailable]")


def test_a_cut_download_goes_on_and_what_is_no_checkpoint_is_said(machine: Machine) -> None:
    machine.hub.cut_after = [1_000_000]
    assert "call again to continue" in machine.fails("pull", DRUM_MODEL)
    line = machine.fails("pull", DRUM_MODEL)
    assert machine.hub.gets()[-1]["range"] == "bytes=1000000-"
    assert "no whole Keras checkpoint" in line
    assert line.endswith("[bad_checkpoint]")


def test_a_truncated_file_of_the_data_folder_is_found_by_its_content(machine: Machine) -> None:
    whole = write_keras(machine.root / "whole", sequential((128, 18, 1), 6, "sigmoid"))
    truncated = whole.read_bytes()[:-30]
    machine.promise(truncated)
    (machine.weights / "called_otherwise.h5").write_bytes(truncated)
    assert "called_otherwise.h5 is no whole Keras" in machine.fails("export", DRUM_MODEL)
    assert machine.hub.requests == []


def test_a_checkpoint_of_another_model(machine: Machine) -> None:
    other = write_keras(machine.root / "other.keras", sequential((126, 13, 1), 10, "softmax"))
    arguments = ("export", DRUM_MODEL, "--checkpoint", str(other))
    assert machine.fails(*arguments).endswith("[checksum_mismatch]")
    line = machine.fails(*arguments, "--allow-unverified")
    assert "has 10 outputs, annoteator_drum_cnn has 6 labels" in line


def test_a_hub_repository_by_its_id(machine: Machine) -> None:
    line = machine.fails("export", DRUM_MODEL, "--checkpoint", "me/mine", "--allow-unverified")
    assert line.endswith("[bad_checkpoint]")  # it came, and is noise
    assert {path for _, path, _ in machine.hub.requests} == {"/me/mine/resolve/main/net.h5"}
    assert len(machine.hub.requests) == 1  # the exporter does not download it again


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ('raise ModuleNotFoundError("gone", name="h5py")', "bandstand[keras]"),
        ("import os; os.kill(os.getpid(), 9)", "code -9"),
        ("import os; print('{}', flush=True); os._exit(3)", "code 3"),
    ],
    ids=["missing", "killed", "dead"],
)
def test_an_exporter_that_cannot_work(machine: Machine, module: str, words: str) -> None:
    checkpoint = machine.weights / "net.h5"
    checkpoint.write_bytes(b"no zip")
    machine.promise(b"no zip")
    (machine.root / "h5py.py").write_text(module)
    machine.environment["PYTHONPATH"] = str(machine.root)
    assert words in machine.fails("export", DRUM_MODEL)


# Without a process


@pytest.fixture
def here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield machine
    monkeypatch.undo()
    get_settings.cache_clear()


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["models", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_what_is_not_here_is_not_exported(here: Machine) -> None:
    code, _, errors = call("export", DRUM_MODEL)
    assert code == 1
    assert f"bandstand models pull {DRUM_MODEL}" in errors
    assert here.hub.requests == []


def test_all_skips_what_is_not_here(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bandstand.models.catalogue.read_cards", lambda _: {DRUM_MODEL: DRUMS})
    code, output, _ = call("export", "--all")
    assert code == 0
    assert f"{DRUM_MODEL} is skipped" in output


def test_what_is_installed_already_is_not_pulled_again(here: Machine) -> None:
    report = f'{{"source_sha256": "{DIGEST}"}}'.encode()
    here.repository.install(DRUMS, {"model.onnx": b"", "report.json": report})
    assert call("pull", DRUM_MODEL) == (0, f"{DRUM_MODEL} version 2 is installed already\n", "")
    assert here.hub.requests == []


def test_versions_are_removed_one_by_one_or_together(here: Machine) -> None:
    for _ in range(3):
        here.repository.install(DRUMS, {"model.onnx": b""})
    assert call("remove", DRUM_MODEL, "--version", "2")[0] == 0
    assert here.repository.versions(DRUM_MODEL) == (1, 3, 4)
    code, _, errors = call("remove", DRUM_MODEL, "--version", "2")
    assert (code, "installed: 1, 3, 4" in errors) == (1, True)
    assert call("remove", DRUM_MODEL)[0] == 0
    assert here.repository.versions(DRUM_MODEL) == ()
    code, _, errors = call("remove", DRUM_MODEL)
    assert (code, "[model_not_installed]" in errors) == (1, True)


@pytest.mark.parametrize("command", ["pull", "export", "remove"])
def test_an_unknown_card_is_told_with_those_there_are(here: Machine, command: str) -> None:
    code, _, errors = call(command, "no_such_model")
    assert code == 1
    assert "[model_not_found]" in errors
    assert DRUM_MODEL in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["pull"],
        ["pull", DRUM_MODEL, "--all"],
        ["export", "--all", "--checkpoint", "x.h5"],
        ["export", DRUM_MODEL, "--checkpoint", "no such file"],
        ["export", DRUM_MODEL, "--precision", "fp8"],
        ["remove", DRUM_MODEL, "--version", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(here: Machine, arguments: list[str]) -> None:
    code, _, errors = call(*arguments)
    assert code == 2
    assert "Traceback" not in errors
