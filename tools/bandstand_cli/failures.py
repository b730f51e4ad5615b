"""Errors on the command line: one line with the type and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.text import Text

from bandstand.errors import BandstandError
from bandstand_client.errors import BandstandClientError

EXIT_FAILED, EXIT_USAGE = 1, 2

_ADVICE = {
    "checksum_mismatch": "`--allow-unverified` accepts a checkpoint without a known sha256",
    "audio_too_long": "raise BANDSTAND_MAX_AUDIO_SECONDS of the process that runs the model",
    "connection_failed": "is a server running there? `bandstand serve` starts one",
    "connect_timeout": "check the address, and whether it can be reached from this machine",
    "model_not_found": "`bandstand models list` shows every model",
    "overloaded": "try again shortly, or with fewer `--concurrency`",
    "payload_too_large": "raise BANDSTAND_MAX_UPLOAD_BYTES of the process that runs the model",
    "read_timeout": "try again with fewer `--concurrency`",
    "unauthorized": "put the server's key in BANDSTAND_API_KEY",
}
# Failures that would concern every other recording too.
_HOPELESS = frozenset(
    {"connection_failed", "connect_timeout", "unauthorized", "bad_card", "model_mismatch"}
    | {"model_not_found", "model_not_installed", "unusable_request", "not_found"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error: a message for people, and its stable type."""

    message: str
    error_type: str

    @property
    def stops_everything(self) -> bool:
        """Whether other recordings would fail too."""
        return self.error_type in _HOPELESS

    @property
    def advice(self) -> str | None:
        """The remedy."""
        return _ADVICE.get(self.error_type)


def failure_of(error: Exception) -> Failure:
    """Describe any error."""
    from pydantic import ValidationError

    if isinstance(error, BandstandError | BandstandClientError):
        return Failure(error.message, error.error_type)
    if isinstance(error, OSError):
        return Failure(error.strerror or str(error), "unreadable")
    if isinstance(error, ValidationError) and error.title == "Settings":
        first = error.errors(include_url=False)[0]
        name = "_".join(map(str, first["loc"])).upper().removeprefix("BANDSTAND_")
        return Failure(f"BANDSTAND_{name}: {first['msg']}", "bad_setting")
    return Failure(
        f"{type(error).__name__}: {error} (an internal error; --debug shows the traceback)",
        "internal_error",
    )


def show_failure(failure: Failure, subject: str | None = None, *, advise: bool = True) -> None:
    """Print a failure to standard error; `subject` is its recording."""
    line = Text("error: ", style="bold red")
    if subject is not None:
        line.append(f"{subject}: ", style="bold default")
    line.append(f"{failure.message} ", style="default").append(
        f"[{failure.error_type}]", style="dim"
    )
    console = Console(stderr=True, highlight=False)
    console.print(line, soft_wrap=True)
    if advise and failure.advice is not None:
        console.print(Text(f"  hint: {failure.advice}", style="cyan"), soft_wrap=True)


@contextmanager
def report_failure(*, debug: bool) -> Iterator[None]:
    """Print an exception of a command in one line and set the exit code; with `debug` raise it."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if _is_of_the_command_line(error) or debugging(debug):
            raise
        failure = failure_of(error)
        show_failure(failure)
        wrong_usage = failure.error_type == "bad_setting"
        raise typer.Exit(EXIT_USAGE if wrong_usage else EXIT_FAILED) from error


def debugging(asked: bool) -> bool:
    """Whether to show tracebacks: by the option, or by the log level of the settings."""
    from pydantic import ValidationError

    from bandstand.settings import get_settings

    try:
        return asked or get_settings().log_level == "DEBUG"
    except ValidationError:
        return False


def _is_of_the_command_line(error: Exception) -> bool:
    """Typer prints usage errors itself; a closed pipe needs no message."""
    return isinstance(error, BrokenPipeError) or hasattr(error, "exit_code")
