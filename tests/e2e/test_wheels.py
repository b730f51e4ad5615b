"""Both wheels, installed into clean environments and used from an empty folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bandstand_client.http import Bandstand
from harness import PROJECT_ROOT
from harness.serving import START_SECONDS, STOP_SECONDS, free_port

MOST_BYTES = {"bandstand": 5_000_000, "bandstand_client": 100_000}
GENERIC = {"bentos", "clients", "exporters", "training", "tools", "tests", "harness", "samples"}
# Of uv and of this suite's own environment, nothing else may shine through.
KEPT = ("PATH", "HOME", "LANG", "UV_FIND_LINKS", "PIP_FIND_LINKS", "SSL_CERT_FILE")
KEPT += ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_CACHE_DIR", "http_proxy")
KEPT += ("https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class Installation:
    """A virtual environment with a wheel, and an empty folder to work in."""

    bin: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in the empty folder; it has to succeed."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done

    @contextmanager
    def running(self, *command: str) -> Iterator[Path]:
        """Run one of its programs meanwhile; yields its log."""
        log = self.folder.parent / f"{command[1]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(self.bin / command[0]), *command[1:]],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def uv(*arguments: str | Path) -> None:
    program = Path(sys.executable).with_name("uv")
    if not program.is_file():
        pytest.skip("uv is not beside this Python; `make test` installs it")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dist")
    for source in (PROJECT_ROOT, PROJECT_ROOT / "clients"):
        uv("build", "--quiet", "--wheel", "--out-dir", folder, source)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def install(folder: Path, *what: str) -> Installation:
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    constraints = PROJECT_ROOT / "constraints.txt"
    uv("pip", "install", "--quiet", "--python", python, "--constraint", constraints, *what)
    (folder / "empty").mkdir()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment["XDG_DATA_HOME"] = str(folder / "data")
    return Installation(folder / "venv" / "bin", folder / "empty", environment)


@pytest.fixture(scope="module")
def server_side(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    wheel = f"bandstand[cpu,triton,export] @ {wheels['bandstand'].as_uri()}"
    return install(tmp_path_factory.mktemp("server"), wheel, str(wheels["bandstand_client"]))


@pytest.fixture(scope="module")
def client_side(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("client"), str(wheels["bandstand_client"]))


def test_wheels_are_small(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == MOST_BYTES.keys()
    for name, wheel in wheels.items():
        assert wheel.stat().st_size < MOST_BYTES[name], wheel.name


def test_no_generic_import_name_is_installed(server_side: Installation) -> None:
    code = f"""
import importlib.util, json
print(json.dumps([name for name in {sorted(GENERIC)} if importlib.util.find_spec(name)]))
"""
    assert json.loads(server_side.run("python", "-P", "-c", code).stdout) == []


def test_the_client_stands_alone(client_side: Installation) -> None:
    code = """
import importlib.util, json
names = ["bandstand", "bandstand_bentos", "bandstand_cli", "numpy", "pydantic", "tritonclient"]
print(json.dumps([name for name in names if importlib.util.find_spec(name)]))
"""
    assert json.loads(client_side.run("python", "-P", "-c", code).stdout) == []


def test_a_recording_is_classified_where_the_wheel_is(server_side: Installation) -> None:
    code = "from bandstand.places import SAMPLES; print(SAMPLES / 'band_groove.ogg')"
    sample = server_side.run("python", "-P", "-c", code).stdout.strip()
    here = json.loads(server_side.run("bandstand", "classify", sample, "--json").stdout)
    assert here["primary_genre"] == "disco"
    assert list(server_side.folder.iterdir()) == []


def test_the_server_answers_the_sample_and_the_client(
    server_side: Installation, client_side: Installation, samples_dir: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    serve = ("bandstand", "serve", "--port", str(port), "--log-format", "text")
    with server_side.running(*serve) as log:
        with Bandstand(address) as client:
            client.wait_ready(START_SECONDS)
        code = f"""
from bandstand_client import Bandstand
with Bandstand("{address}") as band:
    print(band.classify("{samples_dir / "band_groove.ogg"}").primary_genre)
"""
        assert client_side.run("python", "-P", "-c", code).stdout.strip() == "disco"
        assert "swagger" in client_side.run("python", "-P", "-c", _FETCH.format(address)).stdout
    assert "band_groove.ogg" in log.read_text(encoding="utf-8")


_FETCH = "import httpx; print(httpx.get('{}/docs').text.lower())"


def test_an_export_goes_to_the_users_folder_and_lies_over_the_embedded_model(
    server_side: Installation,
) -> None:
    before = json.loads(server_side.run("bandstand", "models", "list", "--json").stdout)
    assert _versions(before) == [1]
    server_side.run("bandstand", "models", "pull", "genre_features")  # it is here already
    server_side.run("bandstand", "models", "export", "genre_features")
    after = json.loads(server_side.run("bandstand", "models", "list", "--json").stdout)
    assert _versions(after) == [1, 2]
    installed = server_side.folder.parent / "data" / "bandstand" / "model_repository"
    # Version 1 is a copy: Triton reads one folder, and the export wrote its config.
    assert {path.parent.name for path in installed.rglob("model.onnx")} == {"1", "2"}


def _versions(listed: dict[str, list[dict[str, object]]]) -> object:
    return next(m["versions"] for m in listed["models"] if m["name"] == "genre_features")


def test_triton_serves_from_the_wheel(server_side: Installation, samples_dir: Path) -> None:
    from bandstand_client.grpc import BandstandGrpc

    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    options = [f"--{name}-port={port}" for name, port in ports.items()]
    with (
        server_side.running("bandstand", "triton", *options),
        BandstandGrpc(f"127.0.0.1:{ports['grpc']}") as client,
    ):
        client.wait_ready(START_SECONDS)
        assert client.classify(samples_dir / "band_groove.ogg").primary_genre == "disco"
