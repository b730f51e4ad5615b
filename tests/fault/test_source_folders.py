"""Checkpoints that are folders: downloaded and verified as a whole."""

from __future__ import annotations

import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bandstand.errors import ChecksumError, SourceError
from bandstand.models.card import Source
from bandstand.models.download import Patience
from bandstand.models.source import SourceCache, source_sha256

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 50_000}
HASTY = Patience(silence_seconds=5.0, attempts=1, backoff_seconds=0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture
def cache(tmp_path: Path) -> SourceCache:
    return SourceCache(tmp_path / "cache", HASTY)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub of one repository; yields what it serves, and what was asked for."""
    served, asked = dict(FILES), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = served.get(Path(self.path).name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield served, asked
    server.shutdown()
    server.server_close()
    thread.join()


def source(uri: str, sha256: str | None = None, revision: str | None = None) -> Source:
    return Source(
        uri=uri,
        files=tuple(FILES),
        sha256=sha256,
        revision=revision,
        licence="MIT",
        trained_on="nothing",
    )


def digest_of(folder: Path) -> str:
    return source_sha256(source(f"file:{folder}"), folder)


def test_the_digest_is_what_the_shell_says(folder: Path) -> None:
    command = "sha256sum config.json model.safetensors | sha256sum"
    said = subprocess.check_output(command, shell=True, cwd=folder, text=True)  # noqa: S602
    assert digest_of(folder) == said.split()[0]


def test_a_local_folder_is_taken_as_it_is_promised(folder: Path, cache: SourceCache) -> None:
    wanted = source(f"file:{folder}", digest_of(folder))
    assert cache.resolve(wanted) == folder
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(ChecksumError):
        cache.resolve(wanted)
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"config\.json"):
        cache.resolve(wanted)


def test_a_hub_folder_is_downloaded_once(folder: Path, cache: SourceCache, hub: Any) -> None:
    _, asked = hub
    wanted = source("hf://owner/name", digest_of(folder), "v1")
    found = cache.resolve(wanted)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
    assert asked == [f"/owner/name/resolve/v1/{name}" for name in FILES]
    assert cache.resolve(wanted, offline=True) == found
    assert len(asked) == len(FILES)


def test_one_other_file_spoils_the_folder(folder: Path, cache: SourceCache, hub: Any) -> None:
    served, _ = hub
    served["config.json"] = b"[]"
    with pytest.raises(ChecksumError, match="promises"):
        cache.resolve(source("hf://owner/name", digest_of(folder)))
    assert [
        path for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock"
    ] == []


def test_a_missing_file_is_named_and_no_folder_is_left(
    folder: Path, cache: SourceCache, hub: Any
) -> None:
    served, _ = hub
    del served["model.safetensors"]
    wanted = source("hf://owner/name", digest_of(folder))
    with pytest.raises(SourceError, match=r"hf://owner/name/model\.safetensors.*404"):
        cache.resolve(wanted)
    assert [path.name for path in cache.root.iterdir()] == ["parts"]
    served |= FILES
    assert digest_of(cache.resolve(wanted)) == wanted.sha256


def test_an_unverified_folder_must_be_asked_for(cache: SourceCache, hub: Any) -> None:
    _, asked = hub
    wanted = source("hf://owner/name")
    with pytest.raises(ChecksumError, match="no sha256"):
        cache.resolve(wanted)
    assert asked == []
    found = cache.resolve(wanted, allow_unverified=True)
    assert found.name == digest_of(found)


@pytest.mark.parametrize("name", ["../config.json", "a/b", "", ".hidden"])
def test_a_file_is_named_without_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="files"):
        Source(uri="file:x", files=(name,), licence="MIT", trained_on="nothing")
