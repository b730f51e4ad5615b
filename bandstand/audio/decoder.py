"""The parent's end of one decoder process."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair
from time import monotonic
from typing import IO, Any

import psutil

from bandstand.audio.decode import DecodeLimits, OutputFormat, Recording
from bandstand.audio.decoder_process import receive, send
from bandstand.audio.effort import AUDIO_SECONDS_PER_CPU_SECOND
from bandstand.errors import BandstandError, UndecodableAudioError

_LOOK_SECONDS = 0.25
# The process checks its time itself between packets; this is for what is no packet.
_GRACE_CPU_SECONDS = 0.5
_MOST_SECONDS = 60.0
_START_SECONDS = 60.0
_PACKAGES = Path(__file__).resolve().parents[2]
_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    # glibc: give memory back that one recording needed and the next does not.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}


class DecoderDiedError(Exception):
    """The process ended while it decoded."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to decode.

    Attributes:
        source: file of the encoded content.
        limits: the limits of accepted recordings.
        wanted: formats, with a sample rate each.
        stores: for each format, a file for the samples of each channel, float32.
    """

    source: IO[bytes]
    limits: DecodeLimits
    wanted: tuple[OutputFormat, ...]
    stores: tuple[list[IO[bytes]], ...]

    @property
    def files(self) -> list[int]:
        """The descriptors of all files."""
        return [self.source.fileno(), *(file.fileno() for row in self.stores for file in row)]

    @property
    def seconds(self) -> float:
        """Length of the audio that is stored so far."""
        if not self.wanted:
            return 0.0
        rate = self.wanted[0].sample_rate or self.limits.max_sample_rate
        return os.fstat(self.stores[0][0].fileno()).st_size / (4 * rate)

    def request(self) -> dict[str, Any]:
        """Return the message to the process."""
        return {
            "wanted": [(each.channels, each.sample_rate) for each in self.wanted],
            "limits": asdict(self.limits),
        }


class Decoder:
    """A decoder process; not for several threads at the same time.

    Attributes:
        usable: whether it can decode another recording.
    """

    def __init__(self) -> None:
        """Start the process.

        Raises:
            DecoderDiedError: it does not start.
        """
        self.usable = True
        self._connection, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        module = "bandstand.audio.decoder_process"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                [_python(), "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
            )
        # Also when nobody calls `end`.
        self._end = weakref.finalize(self, _end, self._process, self._connection)
        self._status = psutil.Process(self._process.pid)
        self._connection.settimeout(_START_SECONDS)
        self._receive()
        self._connection.settimeout(_LOOK_SECONDS)

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def run(self, job: Job) -> Recording:
        """Decode one recording.

        Raises:
            BandstandError: the refusal of the recording.
            DecoderDiedError: the process ended.
        """
        self.usable = False  # until it has answered
        self._send(job.request(), job.files)
        reply = self._wait(job)
        self.usable = True
        if "error" in reply:
            raise BandstandError.from_fields(reply["error"])
        return Recording(**reply["recording"])

    def end(self) -> None:
        """End the process."""
        self.usable = False
        self._end()

    def _send(self, message: Any, descriptors: list[int]) -> None:
        try:
            send(self._connection, message, descriptors)
        except OSError as error:
            raise DecoderDiedError from error

    def _receive(self) -> Any:
        try:
            return receive(self._connection)[0]
        except (EOFError, ConnectionError) as error:
            raise DecoderDiedError from error

    def _wait(self, job: Job) -> Any:
        """Return the next reply, if the process works fast enough."""
        used, started = self._cpu_seconds(), monotonic()
        allowed = job.limits.cpu_seconds + _GRACE_CPU_SECONDS
        while True:
            with suppress(TimeoutError):
                return self._receive()
            needed = job.seconds / AUDIO_SECONDS_PER_CPU_SECOND
            is_slow = self._cpu_seconds() - used > allowed + needed
            if is_slow or monotonic() - started > _MOST_SECONDS:
                raise UndecodableAudioError("decoding takes too long; it was given up")

    def _cpu_seconds(self) -> float:
        try:
            times = self._status.cpu_times()
        except psutil.Error as error:
            raise DecoderDiedError from error
        return float(times.user + times.system)


def _end(process: subprocess.Popen[bytes], connection: socket) -> None:
    connection.close()
    process.kill()
    process.wait()


def _python() -> str:
    """Return the interpreter; embedded ones, as in Triton, do not know theirs."""
    here = sys.executable
    return here if Path(here).name.startswith("python") else which("python3") or "python3"


def _environment() -> dict[str, str]:
    """Return the variables of the process: no settings, hence no keys."""
    passed = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**passed, **_VARIABLES, "PYTHONPATH": str(_PACKAGES)}
