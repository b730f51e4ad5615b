"""The Triton server as our subprocess: starts on a repository, becomes ready, stops."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

import bandstand
import bandstand_client
from bandstand.errors import UnavailableError
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings, get_settings
from bandstand.triton import guardian
from bandstand.triton.audio_models import AUDIO_MODELS
from bandstand.triton.config import write_configs
from bandstand.triton.environment import Environment, prepare_environment
from bandstand_client.triton_control import HEADER

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002

ModelControl = Literal["explicit", "none", "poll"]
OnStep = Callable[[str], None]

_GUARDIAN = Path(guardian.__file__)
_PYTHON_BACKEND_FOLDER = Path(__file__).with_name("backends") / "onnxruntime"
_LOOK_SECONDS = 0.05
_LOAD_SECONDS = 600.0
_DRAIN_SECONDS = 30
_EXIT_SECONDS = 15
_LOADED = re.compile(r"successfully loaded '([^']+)'|failed to load '([^']+)'")
_COMPLAINT = re.compile(r"^(?:E\d{4} \S+ +\d+ \S+\] |error: )(.*)")
_LAST_COMPLAINTS = 6
_POLL_SECONDS = 5
_LISTENS = "Started HTTPService"
_STILL_ANSWERS = ("READY", "UNLOADING")
_FOR_THE_KEY = "model-repository,shared-memory,trace,logging"
"""Triton's names of what needs the key: all that changes the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is started.

    Attributes:
        repository: the folder of its models; `running_server` copies the embedded models there.
        model_control: `explicit`: loads all at start, and clients can load and unload; `none`:
            loads all once; `poll`: reads the repository every few seconds.
        log: file of the server's log; None: a temporary file.
        verbose: level of additional log records; 0: none.
        response_cache_bytes: size of the response cache that cards can use; 0: no cache.
        rate_limit: apply the rate limiter's resources of the cards.
    """

    repository: Path
    host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    metrics_port: int = METRICS_PORT
    model_control: ModelControl = "explicit"
    log: Path | None = None
    verbose: int = 0
    response_cache_bytes: int = 0
    rate_limit: bool = False


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of one model in the server; `reason` tells why it is not ready."""

    name: str
    version: str
    state: str
    reason: str

    @property
    def ready(self) -> bool:
        """Whether the model is ready."""
        return self.state == "READY"


class TritonServer:
    """A running server; `running_server` starts and stops one.

    Attributes:
        options: how it was started.
        control_key: what its clients have to send to change its models or to register shared
            memory: derived from the settings' `admin_key`, else drawn for this start.
        log: its log.
        process: the server itself.
    """

    def __init__(
        self, options: ServerOptions, environment: Environment, settings: Settings
    ) -> None:
        """Start the process; it is not ready yet.

        Raises:
            UnavailableError: it cannot be started.
        """
        self.options = options
        self.control_key = settings.triton_control_key() or secrets.token_hex(32)
        for port in (options.http_port, options.grpc_port, options.metrics_port):
            _check_free(options.host, port)
        self._folder = Path(tempfile.mkdtemp(prefix="bandstand-triton-"))
        self.log = options.log or self._folder / "server.log"
        self._shared_prefix = f"bandstand_{uuid.uuid4().hex[:12]}_"
        self._guardian = _start_guardian(self._shared_prefix, self._folder)
        _lay_out(self._folder, environment)
        variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "VIRTUAL_ENV")}
        variables |= {"OMP_NUM_THREADS": "1", **settings.as_environment(), **environment.variables}
        variables.pop("BANDSTAND_ADMIN_KEY", None)  # its models have no use for it
        try:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603 (our own command)
                    self._command(environment),
                    env=variables,
                    cwd=self._folder / "python",  # its stubs ignore PYTHONPATH and import from here
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # only we get Ctrl-C; and we can find its stubs
                )
        except OSError as error:
            self._clean_up()
            raise UnavailableError(f"could not start the Triton server: {error}") from error

    @property
    def http_url(self) -> str:
        """Address of KServe v2 over HTTP."""
        return f"http://{self.options.host}:{self.options.http_port}"

    @property
    def grpc_address(self) -> str:
        """Address of KServe v2 over gRPC, `host:port`."""
        return f"{self.options.host}:{self.options.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the server's Prometheus metrics."""
        return f"http://{self.options.host}:{self.options.metrics_port}/metrics"

    def wait_ready(self, seconds: float = _LOAD_SECONDS, on_step: OnStep = lambda _: None) -> None:
        """Wait until every model is loaded or has failed to load; `models` returns the states.

        Args:
            seconds: maximum time.
            on_step: called for each loaded model.

        Raises:
            UnavailableError: the server ended, or took too long; the message has its errors.
        """
        deadline, reported = time.monotonic() + seconds, 0
        while True:
            ended = self.process.poll() is not None
            loaded = _LOADED.findall(self._log_text())
            for good, bad in loaded[reported:]:
                on_step(f"loaded {good}" if good else f"failed to load {bad}")
            reported = len(loaded)
            if ended:
                raise UnavailableError(f"the Triton server ended:\n{self.complaints()}")
            if self._answers():
                return
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the Triton server was not ready within {seconds:g} s:\n{self.complaints()}"
                )
            time.sleep(_LOOK_SECONDS)

    def models(self) -> tuple[ModelState, ...]:
        """Return the states of all models, by name.

        Raises:
            UnavailableError: the server does not answer.
        """
        try:
            answer = self._post("index")
            answer.raise_for_status()
            entries = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"the Triton server does not answer: {error}") from error
        states = (
            ModelState(
                entry["name"],
                entry.get("version", ""),
                entry.get("state", "UNAVAILABLE"),
                entry.get("reason", ""),
            )
            for entry in entries
        )
        return tuple(sorted(states, key=lambda state: (state.name, state.version)))

    def shared_memory(self) -> list[Path]:
        """Return the shared memory files of the server and its stubs."""
        return guardian.shared_memory(self._shared_prefix)

    def complaints(self) -> str:
        """Return the last errors of the server's log, else its last lines."""
        lines = self._log_text().splitlines()
        errors = [found[1] for line in lines if (found := _COMPLAINT.match(line))]
        return "\n".join((errors or lines)[-_LAST_COMPLAINTS:])

    def stop(self) -> None:
        """Finish the requests in flight, and stop the server and its stubs."""
        if self.process.poll() is None:
            with suppress(httpx.HTTPError, UnavailableError):
                self._finish_audio()
            self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_DRAIN_SECONDS + _EXIT_SECONDS)
        self._clean_up()
        self.process.wait()

    def _clean_up(self) -> None:
        """Remove what is left of the server, and end the guardian, which finds nothing to do."""
        guardian.clean_up(self._shared_prefix, self._folder)
        with self._guardian:  # closes its input and waits for it
            pass

    def _finish_audio(self) -> None:
        """Unload the audio models; Triton waits until their requests are finished.

        After SIGTERM the server refuses their calls of other models.
        """
        if self.options.model_control != "explicit":
            return
        deadline = time.monotonic() + _DRAIN_SECONDS
        for name in AUDIO_MODELS:
            self._post(f"models/{name}/unload", seconds=_DRAIN_SECONDS)
        while time.monotonic() < deadline and self.process.poll() is None:
            if not any(m.name in AUDIO_MODELS and m.state in _STILL_ANSWERS for m in self.models()):
                return
            time.sleep(_LOOK_SECONDS)

    def _post(self, what: str, *, seconds: float = 5.0) -> httpx.Response:
        """Call Triton's repository API with the server's key."""
        return httpx.post(
            f"{self.http_url}/v2/repository/{what}",
            json={},
            headers={HEADER: self.control_key},
            timeout=seconds,
            trust_env=False,
        )

    def _answers(self) -> bool:
        if _LISTENS not in self._log_text():  # otherwise the answer can be another server's
            return False
        try:
            url = f"{self.http_url}/v2/health/ready"
            return httpx.get(url, timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _log_text(self) -> str:
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _command(self, environment: Environment) -> list[str]:
        asked = self.options
        flags = serving_flags(asked) | {
            "model-repository": asked.repository.resolve(),
            "backend-directory": self._folder / "backends",
            "exit-timeout-secs": _DRAIN_SECONDS,
            "allow-gpu-metrics": "false",
            "http-address": asked.host,
            "http-port": asked.http_port,
            "grpc-address": asked.host,
            "grpc-port": asked.grpc_port,
            "metrics-address": asked.host,
            "metrics-port": asked.metrics_port,
        }
        if asked.response_cache_bytes:
            flags["cache-directory"] = environment.caches
        command = [str(environment.server), *as_arguments(flags), *control_flags(self.control_key)]
        for backend in ("python", "onnxruntime"):
            prefix = f"shm-region-prefix-name={self._shared_prefix}"
            command.append(f"--backend-config={backend},{prefix}")
        return command


def serving_flags(options: ServerOptions) -> dict[str, object]:
    """Return the server's flags that are the same in a container."""
    flags: dict[str, object] = {
        "disable-auto-complete-config": None,  # every model has a config; and the start is faster
        "model-control-mode": options.model_control,
        "exit-on-error": "false",  # the server runs even if a model is broken
        "strict-readiness": "false",
        "log-verbose": options.verbose,
    }
    if options.model_control == "explicit":
        flags["load-model"] = "*"
    if options.model_control == "poll":
        flags["repository-poll-secs"] = _POLL_SECONDS
    if options.response_cache_bytes:
        flags["cache-config"] = f"local,size={options.response_cache_bytes}"
    if options.rate_limit:
        flags["rate-limit"] = "execution_count"
    return flags


def control_flags(key: str) -> list[str]:
    """Return the arguments with which the server changes only for clients that send a key."""
    return [
        f"--{flag}={_FOR_THE_KEY}:{HEADER}={key}"
        for flag in ("grpc-restricted-protocol", "http-restricted-api")
    ]


def as_arguments(flags: Mapping[str, object]) -> list[str]:
    """Return flags as command line arguments; None: a flag without a value."""
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in flags.items()]


@contextmanager
def running_server(
    options: ServerOptions, *, settings: Settings | None = None, on_step: OnStep = lambda _: None
) -> Iterator[TritonServer]:
    """Write the configs, prepare the environment, start a server, and stop it after the block.

    Args:
        options: how it is started.
        settings: limits of recordings, and the cache folder; None: this process's settings.
        on_step: called with a description of each step.

    Raises:
        UnavailableError: the server cannot be installed or started, or does not become ready.
        RepositoryError: the repository is not writable.
    """
    settings = settings or get_settings()
    write_configs(ModelRepository.over_embedded(options.repository))
    environment = prepare_environment(settings.cache_dir, on_step)
    on_step("starting the Triton server")
    server = TritonServer(options, environment, settings)
    try:
        server.wait_ready(on_step=on_step)
        yield server
    finally:
        server.stop()


def _start_guardian(prefix: str, folder: Path) -> subprocess.Popen[str]:
    """Start the process that ends the server and cleans up if this process is killed.

    Raises:
        UnavailableError: it cannot be started.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [sys.executable, "-I", "-S", _GUARDIAN],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnavailableError(f"could not start the Triton server: {error}") from error
    pipe = process.stdin
    assert pipe is not None  # noqa: S101 (for mypy)
    pipe.write(f"{prefix}\n{folder}\n{_DRAIN_SECONDS + _EXIT_SECONDS}\n")
    pipe.flush()
    return process


def _check_free(host: str, port: int) -> None:
    """Raise now if a port is in use, not after all models are loaded."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"the Triton server cannot listen on {host}:{port}: {error.strerror}"
            ) from error


def _lay_out(folder: Path, environment: Environment) -> None:
    """Create links to the server's backends and to this Bandstand package."""
    (folder / "backends").mkdir()
    (folder / "backends" / "python").symlink_to(environment.python_backend)
    (folder / "backends" / _PYTHON_BACKEND_FOLDER.name).symlink_to(_PYTHON_BACKEND_FOLDER)
    (folder / "python").mkdir()
    for package in (bandstand, bandstand_client):
        source = Path(str(package.__file__)).resolve().parent
        (folder / "python" / source.name).symlink_to(source)
