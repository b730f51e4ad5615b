"""`bandstand triton` serves until SIGTERM, finishes requests in flight, and cleans up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bandstand.triton.docker import NVIDIA_IMAGE
from bandstand_client.triton_control import HEADER, control_key
from harness import PROJECT_ROOT
from harness.audio_files import tone as chord
from harness.recordings import wav
from harness.serving import free_port
from tests.triton_serving import AudioClient

SAFE_RELEASE = 25.10
"""NVIDIA's fixes of what lets strangers control a server, or stop it, are in 25.07 to 25.10."""
KEY = "a key of an administrator"
START_SECONDS = 120.0
STOP_SECONDS = 60.0
COMMAND = [sys.executable, "-m", "bandstand_cli", "triton"]


def test_it_serves_and_answers_what_was_begun_before_it_stops(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(PROJECT_ROOT / "model_repository", repository)
    ports = [free_port() for _ in range(3)]
    given = zip(("--http-port", "--grpc-port", "--metrics-port"), map(str, ports), strict=True)
    arguments = [part for pair in given for part in pair]
    said = tmp_path / "said"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with said.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, *arguments, "--repository", str(repository)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops it" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)
        client = AudioClient(f"127.0.0.1:{ports[1]}")
        recording = wav(chord(600, 22_050), 22_050)
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(client.ask, "classify_genre", recording)
            time.sleep(0.5)  # it is being decoded
            assert not work.done()
            process.send_signal(signal.SIGTERM)
            assert work.result()[0]["audio"]["duration_seconds"] == 600
        assert process.wait(STOP_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = said.read_text()
    audio_models = ("classify_genre", "tag_instruments", "analyze_features", "decode_audio")
    for model in (*audio_models, "genre_features"):
        assert f"loaded {model}" in lines
    assert not list(tmp_path.glob("bandstand-triton-*"))


def test_the_container_is_pinned_and_gets_the_repository(tmp_path: Path) -> None:
    command = [*COMMAND, "--docker", "--repository", str(tmp_path), "--grpc-port", "9001"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"FROM {NVIDIA_IMAGE}" in shown
    release = re.search(r":(\d+\.\d+)-py3$", NVIDIA_IMAGE)
    assert release is not None
    assert float(release[1]) >= SAFE_RELEASE
    assert "python_backend_stub" not in shown, "a stub fits the backend of its own release only"
    assert f"{tmp_path}:/models:ro" in shown
    assert "127.0.0.1:9001:8001" in shown
    for served in ("genre_features/1/model.onnx", "genre_features/config.pbtxt"):
        assert (tmp_path / served).is_file(), "the container gets this one folder"


def test_the_printed_commands_build_and_serve_with_the_key_of_the_environment(
    tmp_path: Path,
) -> None:
    """The shell runs them; `docker` notes its arguments, and pip those of the Dockerfile."""
    shown = subprocess.run(
        [*COMMAND, "--docker", "--repository", str(tmp_path / "models")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    programs = tmp_path / "bin"
    programs.mkdir()
    noted = tmp_path / "noted"
    script = f'#!/bin/sh\nfor part in "$@"; do echo "$part" >> {noted}; done\ncat > /dev/null\n'
    for name, content in (
        ("docker", script),
        ("bandstand", f'#!/bin/sh\nexec {" ".join(COMMAND[:-1])} "$@"\n'),
    ):
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "BANDSTAND_ADMIN_KEY": KEY}
    subprocess.run(["sh", "-euc", shown], env=environment, check=True, stdin=subprocess.DEVNULL)
    arguments = noted.read_text().splitlines()
    assert arguments[0] == "build"
    for flag in ("grpc-restricted-protocol", "http-restricted-api"):
        (given,) = (part for part in arguments if part.startswith(f"--{flag}="))
        protected, _, key = given.partition("=")[2].partition(f":{HEADER}=")
        assert {"model-repository", "shared-memory"} <= set(protected.split(","))
        assert key == control_key(KEY)
    noted.unlink()
    del environment["BANDSTAND_ADMIN_KEY"]
    run = subprocess.run(
        ["sh", "-uc", shown], env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "BANDSTAND_ADMIN_KEY is not set" in run.stderr
    assert "run" not in noted.read_text().splitlines(), "no server without a key"


def test_an_address_of_other_machines_is_warned_of(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*COMMAND, "--host", "0.0.0.0", "--grpc-port", port]
        command += ["--repository", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "without a key" in ended.stderr
    assert ended.returncode == 1


def test_a_port_in_use_ends_it_with_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [*COMMAND, "--grpc-port", port, "--repository", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "[unavailable]" in ended.stderr
