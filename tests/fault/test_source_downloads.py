"""Downloads from servers that disconnect, send wrong content, refuse, hang, or do not exist."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from bandstand.errors import CardError, ChecksumError, SourceError
from bandstand.models.card import Source
from bandstand.models.download import Patience
from bandstand.models.source import SourceCache
from tests.file_server import CONTENT, FileServer, serving

DIGEST = sha256(CONTENT).hexdigest()
HASTY = Patience(silence_seconds=5.0, attempts=3, backoff_seconds=0.01, longest_wait_seconds=2.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(FileServer(), authority) as files:
        yield files


@pytest.fixture
def cache(tmp_path: Path) -> SourceCache:
    return SourceCache(tmp_path / "cache", HASTY)


def source(uri: str, digest: str | None = DIGEST, revision: str | None = None) -> Source:
    return Source(uri=uri, sha256=digest, revision=revision, licence="MIT", trained_on="noise")


def contents(cache: SourceCache) -> list[str]:
    """Names of the files that hold content, finished or not."""
    return sorted(
        p.name for p in cache.root.rglob("*") if p.is_file() and p.suffix not in (".lock", ".tag")
    )


# https


def test_a_download_is_kept_and_found_again_without_the_network(
    https: FileServer, cache: SourceCache
) -> None:
    told: list[tuple[int, int | None]] = []
    wanted = source(f"{https.url}/models/genre.pth")
    path = cache.resolve(wanted, progress=lambda done, total: told.append((done, total)))
    assert path == cache.root / DIGEST / "genre.pth"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert cache.resolve(wanted) == cache.resolve(wanted, offline=True) == path
    assert len(https.requests) == 1
    assert contents(cache) == ["genre.pth"]


def test_a_cut_download_is_continued(https: FileServer, cache: SourceCache) -> None:
    https.cut_after = [1_000_000, 500_000, 1_000, 1_000, 1_000]  # more cuts than attempts
    assert cache.resolve(source(f"{https.url}/m.pth")).read_bytes() == CONTENT
    starts = [int(h["range"].removeprefix("bytes=").rstrip("-")) for h in https.gets()[1:]]
    assert starts == [1_000_000, 1_500_000, 1_501_000, 1_502_000, 1_503_000]


def test_a_later_process_continues_where_one_gave_up(https: FileServer, cache: SourceCache) -> None:
    https.cut_after = [1_000_000, 0, 0, 0]
    wanted = source(f"{https.url}/m.pth")
    with pytest.raises(SourceError, match="call again to continue"):
        cache.resolve(wanted)
    assert not (cache.root / DIGEST).exists()
    https.cut_after.clear()
    assert cache.resolve(wanted).read_bytes() == CONTENT
    assert https.gets()[-1]["range"] == "bytes=1000000-"


@pytest.mark.parametrize("etag", ['"v2"', None])
def test_a_file_that_changed_meanwhile_starts_anew(
    https: FileServer, cache: SourceCache, etag: str | None
) -> None:
    wanted = source(f"{https.url}/m.pth")
    https.content, https.etag = bytes(2_000_000), '"v1"' if etag else None
    https.cut_after = [1_000_000, 0, 0]
    with pytest.raises(SourceError):
        cache.resolve(wanted)
    https.content, https.etag, https.cut_after = CONTENT, etag, []
    assert cache.resolve(wanted).read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_cuts_is_given_up(
    https: FileServer, cache: SourceCache
) -> None:
    https.knows_ranges = False
    https.cut_after = [1_000_000] * 20
    with pytest.raises(SourceError, match="connection lost"):
        cache.resolve(source(f"{https.url}/m.pth"))
    assert len(https.gets()) <= 2 * HASTY.attempts


def test_a_server_without_ranges_is_read_from_the_start(
    https: FileServer, cache: SourceCache
) -> None:
    https.knows_ranges = False
    https.cut_after = [1_000_000]
    assert cache.resolve(source(f"{https.url}/m.pth")).read_bytes() == CONTENT


def test_other_content_than_promised_is_not_kept(https: FileServer, cache: SourceCache) -> None:
    https.content = b"<html>please log in to this network</html>"
    with pytest.raises(ChecksumError, match=DIGEST):
        cache.resolve(source(f"{https.url}/m.pth"))
    assert contents(cache) == []
    https.content = CONTENT
    assert cache.resolve(source(f"{https.url}/m.pth")).read_bytes() == CONTENT


def test_a_kept_file_that_rotted_is_fetched_anew(https: FileServer, cache: SourceCache) -> None:
    path = cache.resolve(source(f"{https.url}/m.pth"))
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(SourceError, match="not in the cache"):
        cache.resolve(source(f"{https.url}/m.pth"), offline=True)
    assert cache.resolve(source(f"{https.url}/m.pth")).read_bytes() == CONTENT


def test_unverified_content_is_refused_unless_asked_for(
    https: FileServer, cache: SourceCache, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = source(f"{https.url}/m.pth", digest=None)
    with pytest.raises(ChecksumError, match="no sha256"):
        cache.resolve(wanted)
    assert https.requests == []
    assert cache.resolve(wanted, allow_unverified=True).parent.name == DIGEST
    assert DIGEST in caplog.text


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, "credentials"),
        (403, {}, "credentials"),
        (404, {}, "check owner, name, revision and file"),
        (418, {}, "418"),
    ],
)
def test_a_refusal_is_believed_at_once_and_explained(
    https: FileServer, cache: SourceCache, status: int, headers: dict[str, str], words: str
) -> None:
    https.statuses = [(status, headers)] * 10
    with pytest.raises(SourceError, match=words):
        cache.resolve(source(f"{https.url}/m.pth"))
    assert len(https.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_moment_of_trouble_is_waited_out_and_a_long_one_is_not(
    https: FileServer, cache: SourceCache, status: int
) -> None:
    wanted = source(f"{https.url}/m.pth")
    https.statuses = [(status, {})] * 10
    with pytest.raises(SourceError, match=f"{status}.*try again later"):
        cache.resolve(wanted)
    assert len(https.requests) == HASTY.attempts
    https.statuses = [(status, {}), (status, {"Retry-After": "0"})]
    assert cache.resolve(wanted).read_bytes() == CONTENT


def test_a_long_retry_after_is_passed_on_and_not_slept(
    https: FileServer, cache: SourceCache
) -> None:
    https.statuses = [(429, {"Retry-After": "3600"})]
    with pytest.raises(SourceError) as refusal:
        cache.resolve(source(f"{https.url}/m.pth"))
    assert refusal.value.retry_after == 3600
    assert len(https.requests) == 1


def test_a_hanging_server_is_left(https: FileServer, tmp_path: Path) -> None:
    https.gate = threading.Event()
    hasty = Patience(silence_seconds=0.2, attempts=2, backoff_seconds=0.01)
    with pytest.raises(SourceError, match=r"sent nothing for 0\.2 s"):
        SourceCache(tmp_path / "cache", hasty).resolve(source(f"{https.url}/m.pth"))


def test_no_server_at_all_is_explained(cache: SourceCache) -> None:
    with pytest.raises(SourceError, match=r"no connection.*HTTPS_PROXY"):
        cache.resolve(source("https://127.0.0.1:1/m.pth"))


def test_an_unknown_certificate_is_not_trusted(
    https: FileServer, cache: SourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED"):
        cache.resolve(source(f"{https.url}/m.pth"))


def test_a_redirect_away_from_tls_is_refused(https: FileServer, cache: SourceCache) -> None:
    with serving(FileServer()) as plain:
        https.redirect = f"{plain.url}/m.pth"
        with pytest.raises(SourceError, match="without TLS"):
            cache.resolve(source(f"{https.url}/m.pth"))
        assert plain.requests == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1/m", "ftp://x/y", "hf://owner/name", "m.pth"])
def test_an_address_of_no_known_kind_is_the_cards_fault(cache: SourceCache, uri: str) -> None:
    with pytest.raises(CardError):
        cache.resolve(source(uri))


# Processes of their own

RESOLVE = """
    import json, sys
    from pathlib import Path
    from bandstand.errors import BandstandError
    from bandstand.models.card import Source
    from bandstand.models.download import Patience
    from bandstand.models.source import SourceCache
    job = json.loads(sys.argv[1])
    if "file_limit" in job:
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    cache = SourceCache(Path(job["root"]), Patience(5.0, 3, 0.01))
    for source in job["sources"]:
        try:
            print(json.dumps(str(cache.resolve(Source.model_validate(source)))))
        except BandstandError as error:
            print(json.dumps(error.to_fields()))
"""


def start(cache: SourceCache, *sources: Source, **extra: Any) -> subprocess.Popen[str]:
    job = {"root": str(cache.root), "sources": [s.model_dump() for s in sources]}
    environment = extra.pop("environment", {})
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RESOLVE), json.dumps(job | extra)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(process: subprocess.Popen[str]) -> list[Any]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_full_disk_is_said_and_leaves_no_half_file(https: FileServer, cache: SourceCache) -> None:
    (answer,) = answers(start(cache, source(f"{https.url}/m.pth"), file_limit=1_500_000))
    assert answer["error_type"] == SourceError.error_type
    assert "free some space" in answer["error"]
    assert contents(cache) == []


def test_of_two_processes_one_downloads(https: FileServer, cache: SourceCache) -> None:
    https.gate = threading.Event()
    both = [start(cache, source(f"{https.url}/m.pth")) for _ in range(2)]
    until(lambda: bool(https.requests))
    https.gate.set()
    assert answers(both[0]) == answers(both[1]) == [str(cache.root / DIGEST / "m.pth")]
    assert len(https.requests) == 1


def test_a_killed_download_is_continued(https: FileServer, cache: SourceCache) -> None:
    https.cut_after = [1_000_000]
    https.gate, https.ungated = threading.Event(), 1
    wanted = source(f"{https.url}/m.pth")
    process = start(cache, wanted)
    with process:
        until(lambda: len(https.requests) == 2)  # it waits for the rest
        process.kill()
    https.gate.set()
    assert not (cache.root / DIGEST).exists()
    assert cache.resolve(wanted).read_bytes() == CONTENT
    assert https.gets()[-1]["range"] == "bytes=1000000-"


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it never happened")


# The hub


def hub_environment(hub: FileServer, tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), **more}


def test_a_hub_file_comes_with_revision_token_and_continuation(
    cache: SourceCache, tmp_path: Path
) -> None:
    with serving(FileServer()) as elsewhere, serving(FileServer()) as hub:
        hub.cut_after = [1_000_000]
        elsewhere.cut_after = [1_000_000]
        wanted = source("hf://owner/name/sub/m.safetensors", revision="v1.2")
        environment = hub_environment(hub, tmp_path, HF_TOKEN="hf_secret")  # noqa: S106
        (answer,) = answers(start(cache, wanted, environment=environment))
        assert answer == str(cache.root / DIGEST / "m.safetensors")
        assert Path(answer).read_bytes() == CONTENT
        assert {path for _, path, _ in hub.requests} == {
            "/owner/name/resolve/v1.2/sub/m.safetensors"
        }
        assert [h["authorization"] for h in hub.gets()] == ["Bearer hf_secret"] * 2
        assert hub.gets()[1]["range"] == "bytes=1000000-"

        hub.redirect = elsewhere.url.replace("127.0.0.1", "localhost") + "/blob?signed"
        (answer,) = answers(
            start(
                SourceCache(tmp_path / "other"),
                wanted,
                environment=environment,
            )
        )
        assert Path(answer).read_bytes() == CONTENT
        assert all("authorization" not in headers for headers in elsewhere.gets())
        assert elsewhere.gets()[1]["range"] == "bytes=1000000-"


def test_a_hub_that_refuses_is_explained(cache: SourceCache, tmp_path: Path) -> None:
    with serving(FileServer()) as hub:
        gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"}
        hub.statuses = [(401, {}), (403, gated), (404, {"X-Error-Message": "Entry not found"})]
        unknown, restricted, missing, unnamed = answers(
            start(
                cache,
                *[source(f"hf://owner/name/{n}.pth") for n in "abc"],
                source("hf://owner/name"),
                environment=hub_environment(hub, tmp_path),
            )
        )
    assert "HF_TOKEN" in unknown["error"]
    assert "accept its terms" in restricted["error"]
    assert "Access to model is restricted" in restricted["error"]
    assert "Entry not found" in missing["error"]
    assert unnamed["error_type"] == CardError.error_type
    assert contents(cache) == []


def test_the_hubs_own_cache_and_offline_mode_are_honoured(
    cache: SourceCache, tmp_path: Path
) -> None:
    with serving(FileServer()) as hub:
        environment = hub_environment(hub, tmp_path, HF_HUB_DISABLE_XET="1")
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from huggingface_hub import hf_hub_download as get; get('owner/name', 'm.pth')",
            ],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
        )
        before = len(hub.requests)
        found, absent, other = answers(
            start(
                cache,
                source("hf://owner/name/m.pth"),
                source("hf://owner/name/n.pth"),
                source("hf://owner/name/m.pth", digest="0" * 64),
                environment=environment | {"HF_HUB_OFFLINE": "1"},
            )
        )
        assert len(hub.requests) == before
    assert Path(found).read_bytes() == CONTENT
    assert "HF_HUB_OFFLINE" in absent["error"]
    assert "HF_HUB_OFFLINE" in other["error"]  # what lies there is not what was asked for


# S3 and files


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    yield client
    client.close()
    server.stop()


def test_an_s3_object_is_fetched_and_a_missing_one_is_said(s3: Any, cache: SourceCache) -> None:
    s3.put_object(Bucket="models", Key="a/m.pth", Body=CONTENT)
    told: list[tuple[int, int | None]] = []
    path = cache.resolve(
        source("s3://models/a/m.pth"), progress=lambda done, total: told.append((done, total))
    )
    assert path == cache.root / DIGEST / "m.pth"
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    for uri in ("s3://models/a/n.pth", "s3://nowhere/n.pth"):
        with pytest.raises(SourceError, match="no such bucket or key"):
            cache.resolve(source(uri))
    with pytest.raises(ChecksumError):
        cache.resolve(source("s3://models/a/m.pth", digest="0" * 64))
    assert contents(cache) == ["m.pth"]


def test_an_s3_store_that_is_not_there_is_explained(
    cache: SourceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(SourceError, match="AWS_ENDPOINT_URL"):
        cache.resolve(source("s3://models/m.pth"))


def test_a_missing_s3_package_is_named(cache: SourceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SourceError, match=r"bandstand\[s3\]"):
        cache.resolve(source("s3://models/m.pth"))


def test_a_local_file_is_verified_where_it_lies(cache: SourceCache, tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(CONTENT)
    assert cache.resolve(source(f"file:{path}")) == path
    assert cache.resolve(source(f"file://{path}"), offline=True) == path
    with pytest.raises(ChecksumError):
        cache.resolve(source(f"file:{path}", digest="0" * 64))
    with pytest.raises(SourceError, match="no-such-file"):
        cache.resolve(source("file:no-such-file"))
