"""The command line: help, exit codes, audio inputs and error messages."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandstand import __version__
from bandstand.errors import ModelNotFoundError, NotAudioError
from bandstand.settings import get_settings
from bandstand_cli.app import app
from bandstand_cli.batch import Outcome, answer_all
from bandstand_cli.failures import Failure, failure_of
from bandstand_cli.inputs import NoSuchInputError, Recording, find_recordings
from bandstand_cli.records import csv_file, json_line

COMMANDS = [
    *(["serve"], ["classify"], ["features"], ["instruments"], ["diagnose"], ["triton"], ["bench"]),
    *(["models", command] for command in ("list", "show", "pull", "export", "remove")),
    *(["models", command] for command in ("load", "unload", "rollback")),
    *(["train", command] for command in ("table", "genre_features")),
]


@pytest.fixture
def no_server() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", **environment})
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(command: list[str]) -> None:
    code, output, _ = run(*command, "--help")
    assert code == 0
    assert f"bandstand {' '.join(command)}" in output.partition("Usage:")[2].partition("\n")[2]


def test_version_is_the_packages() -> None:
    assert run("--version") == (0, f"bandstand {__version__}\n", "")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from bandstand_cli import main\n"
        "sys.argv = ['bandstand', 'classify', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'scipy', 'onnxruntime', 'openvino', 'av', 'bentoml', 'httpx'}"
        "\nprint('loaded:', sorted(heavy & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert output.stdout.decode().strip().endswith("loaded: []")


@pytest.mark.parametrize(
    "arguments",
    [
        ["clasify"],
        ["classify"],
        ["classify", "/no/such/file.wav"],
        ["classify", "a.wav", "--top-k", "0"],
        ["classify", "a.wav", "--concurrency", "many"],
        ["instruments", "a.wav", "--threshold", "2"],
        ["features", "a.wav", "--server", "localhost:3000"],
        ["serve", "--port", "70000"],
        ["serve", "--log-format", "xml"],
        ["models", "show"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert "Traceback" not in errors


def test_directory_without_audio_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("la la la")
    code, _, errors = run("classify", str(tmp_path))
    assert code == 2
    assert "no audio in the directory" in errors


def test_directories_are_walked_for_audio_and_repeats_dropped(tmp_path: Path) -> None:
    album = tmp_path / "b" / "album"
    album.mkdir(parents=True)
    for name in ("2.MP3", "1.flac", "cover.jpg", "._1.flac"):
        (album / name).touch()
    odd = tmp_path / "b" / "named.xyz"
    odd.touch()
    url = "https://example.org/a"
    found = find_recordings([str(odd), str(tmp_path), str(album / "1.flac"), url, url])
    names = [str(odd), str(album / "1.flac"), str(album / "2.MP3"), url]
    assert [recording.name for recording in found] == names
    assert found[-1].path is None
    with pytest.raises(NoSuchInputError, match="gone"):
        find_recordings([str(odd), str(tmp_path / "gone")])


def test_no_server_is_one_line_and_stops_the_rest(tmp_path: Path, no_server: str) -> None:
    for i in range(20):
        (tmp_path / f"{i}.wav").touch()
    code, output, errors = run("classify", str(tmp_path), "--server", no_server, "-c1", "--json")
    assert code == 1
    (line,) = output.splitlines()
    assert json.loads(line)["error_type"] == "connection_failed"
    assert "19 not tried" in errors
    assert "bandstand serve" in errors
    assert "Traceback" not in errors


def test_bad_setting_names_its_variable(fresh_settings: None) -> None:
    code, _, errors = run("models", "list", BANDSTAND_PORT="abc")
    assert code == 2
    assert "BANDSTAND_PORT" in errors


def test_unknown_model_is_told_in_one_line() -> None:
    code, _, errors = run("models", "show", "no_such_model")
    assert code == 1
    assert "[model_not_found]" in errors
    assert "bandstand models list" in errors


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(app, ["--debug", "models", "show", "no_such_model"])
    assert isinstance(result.exception, ModelNotFoundError)


async def test_one_bad_recording_does_not_stop_the_rest() -> None:
    recordings = [Recording(str(i), None) for i in range(6)]

    async def ask(recording: Recording) -> str:
        if recording.name == "2":
            raise NotAudioError("no audio")
        if recording.name == "4":
            raise ZeroDivisionError
        return recording.name

    outcomes = answer_all(recordings, ask, concurrency=2, progress=False, debug=False)
    seen = {o.recording.name: o.failure and o.failure.error_type async for o in outcomes}
    assert seen == dict.fromkeys("0135") | {"2": "not_audio", "4": "internal_error"}


def test_unreadable_files_are_named_as_such(tmp_path: Path) -> None:
    assert failure_of(PermissionError(13, "Permission denied")).error_type == "unreadable"
    failed = Outcome(Recording("a.wav", tmp_path), None, Failure("no", "not_audio"))
    assert json.loads(json_line(failed)) == {
        "path": "a.wav",
        "error": "no",
        "error_type": "not_audio",
    }


def test_csv_refuses_rows_of_another_table(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with csv_file(path) as rows:
        assert rows is not None
        rows.write({"path": 'a "quoted", name', "tempo": 120.0})
        with pytest.raises(ValueError, match="jazz"):
            rows.write({"path": "b", "jazz": 0.5})
    assert path.read_text().splitlines() == ["path,tempo", '"a ""quoted"", name",120.0']
