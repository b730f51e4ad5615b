"""The signature of a signed address, and a password in one, appear nowhere but in the request."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from bandstand.errors import BandstandError, CardError
from bandstand.models.address import shown_address
from bandstand.models.card import Source, load_card
from bandstand.models.download import Patience
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand.places import packaged_file
from harness.cards import get_card
from tests.file_server import FileServer, serving

NAME = "genre_features"
SIGNATURE, PASSWORD, FRAGMENT = "f00dfeed" * 8, "hunter2hunter2", "c0ffee00"
SECRETS = (SIGNATURE, PASSWORD, FRAGMENT)
HASTY = Patience(silence_seconds=5, attempts=1)
EXPORT_SECONDS = 180


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server whose `url` needs a signature; the network is one that we trust."""
    authority = trustme.CA()
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(FileServer(), authority) as files:
        host = files.url.removeprefix("https://")
        files.url = (
            f"https://key:{PASSWORD}@{host}/bucket/model.safetensors"
            f"?X-Amz-Signature={SIGNATURE}#{FRAGMENT}"
        )
        yield files


def source(uri: str, sha256: str | None = "0" * 64) -> Source:
    return Source(uri=uri, sha256=sha256, licence="MIT", trained_on="noise")


def assert_no_secret(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://host:8443/a/b.pt", "https://host:8443/a/b.pt"),
        ("https://key:pass@host/a?sig=1#x", "https://host/a"),
        ("https://key@host", "https://host"),
        ("https:host/a?sig=1", "https:host/a"),
        ("s3://key:pass@bucket/a?versionId=1", "s3://bucket/a"),
        ("hf://owner/name/net.h5", "hf://owner/name/net.h5"),
        ("file:/models/net.h5", "file:/models/net.h5"),
        ("package:bandstand_training/net", "package:bandstand_training/net"),
        ("owner/name?token=1", "owner/name"),
        ("https://[::1/a?sig=1", "https://[::1/a"),
    ],
)
def test_an_address_is_shown_without_its_credentials(uri: str, shown: str) -> None:
    assert shown_address(uri) == shown


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 416, 429, 500])
def test_no_error_of_a_download_shows_them(
    signed: FileServer, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """200: with another content than promised."""
    if status == 302:
        signed.redirect = f"http://127.0.0.1/elsewhere?X-Amz-Signature={SIGNATURE}"
    elif status != 200:
        signed.statuses = [(status, {})] * 5
    with caplog.at_level(logging.DEBUG, "bandstand"), pytest.raises(BandstandError) as caught:
        SourceCache(tmp_path / "cache", HASTY).resolve(source(signed.url))
    assert "127.0.0.1" in caught.value.message
    assert_no_secret(caught.value.message)
    assert_no_secret(str(caught.value.to_fields()))
    assert_no_secret(caplog.text)
    assert not [path for path in (tmp_path / "cache").rglob("*") if SIGNATURE in path.name]
    assert any(SIGNATURE in path for _, path, _ in signed.requests), "the server needs it"


@pytest.mark.parametrize("scheme", ["http", "ftp", "hf"])
def test_no_error_of_an_address_shows_them(scheme: str, tmp_path: Path) -> None:
    uri = f"{scheme}://key:{PASSWORD}@h/?X-Amz-Signature={SIGNATURE}#{FRAGMENT}"
    for options in ({"offline": True}, {}):
        with pytest.raises(BandstandError) as caught:
            SourceCache(tmp_path, HASTY).resolve(source(uri), **options)
        assert_no_secret(caught.value.message)
    with pytest.raises(BandstandError) as caught:
        SourceCache(tmp_path, HASTY).resolve(source(uri, sha256=None))
    assert_no_secret(caught.value.message)
    assert_no_secret(repr(source(uri)))


def test_no_error_of_a_card_shows_them(tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    card.write_text(f"source:\n  uri: https://host/m?X-Amz-Signature={SIGNATURE}\n")
    with pytest.raises(CardError, match="licence") as caught:
        load_card(card)
    assert_no_secret(caught.value.message)


@pytest.fixture
def other_checkpoint() -> bytes:
    """The embedded model's, with another last digit: the card's address is not its source."""
    content = bytearray(packaged_file(get_card(NAME).source.uri.partition(":")[2]).read_bytes())
    content[-4] ^= 1
    return bytes(content)


def test_an_export_shows_them_in_no_process_and_no_file(
    signed: FileServer, other_checkpoint: bytes, tmp_path: Path
) -> None:
    signed.content = other_checkpoint
    repository = ModelRepository(tmp_path / "models")
    settings = {
        "BANDSTAND_REPOSITORY": str(repository.root),
        "BANDSTAND_CACHE_DIR": str(tmp_path / "cache"),
    }
    said = tmp_path / "said"
    command = [sys.executable, "-m", "bandstand_cli", "models", "export", NAME]
    with said.open("w") as output:
        process = psutil.Popen(
            [*command, "--checkpoint", "-", "--allow-unverified"],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        process.stdin.write(f"{signed.url}\n".encode())
        process.stdin.close()
        arguments = _arguments_until_it_ends(process)
    assert process.returncode == 0, said.read_text()
    assert "bandstand_exporters" in arguments, "the process that exports was not seen"
    assert_no_secret(arguments)
    assert_no_secret(said.read_text())
    version = repository.latest(NAME)
    report = version.report()
    host = shown_address(signed.url)
    assert report["source_uri"] == host
    for file in version.folder.parent.rglob("*"):
        if file.is_file():
            assert_no_secret(file.read_bytes().decode("latin-1"))


def test_the_version_of_a_card_with_a_signed_address_does_not_have_it(
    signed: FileServer, other_checkpoint: bytes, tmp_path: Path
) -> None:
    from bandstand_exporters.export import export

    signed.content = other_checkpoint
    cache = SourceCache(tmp_path / "cache", HASTY)
    path = cache.resolve(source(signed.url, sha256=None), allow_unverified=True)
    card = get_card(NAME)
    changes = {"uri": signed.url, "sha256": path.parent.name}
    card = card.model_copy(update={"source": card.source.model_copy(update=changes)})
    repository = ModelRepository(tmp_path / "models")
    export(card, repository, cache)
    version = repository.latest(NAME)
    assert version.card().source.uri == version.report()["source_uri"] == shown_address(signed.url)


def _arguments_until_it_ends(process: psutil.Popen) -> str:
    """Return the arguments of a process and of all that it starts."""
    seen: dict[int, str] = {}
    while True:
        for one in (process, *process.children(recursive=True)):
            try:
                seen[one.pid] = " ".join(one.cmdline()) or seen.get(one.pid, "")
            except psutil.Error:
                continue
        try:
            process.wait(0.05)
        except psutil.TimeoutExpired:
            continue
        return "\n".join(seen.values())
