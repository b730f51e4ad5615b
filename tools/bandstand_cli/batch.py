"""Many recordings through one engine: bounded, with progress, past the bad ones."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bandstand_cli.failures import Failure, failure_of
from bandstand_cli.inputs import Recording
from bandstand_client.concurrency import as_they_finish

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Answer]):
    """What became of one recording; either `answer` or `failure` is None."""

    recording: Recording
    answer: Answer | None
    failure: Failure | None


async def answer_all(
    recordings: list[Recording],
    ask: Callable[[Recording], Awaitable[Answer]],
    *,
    concurrency: int,
    progress: bool,
    debug: bool,
) -> AsyncGenerator[Outcome[Answer], None]:
    """Yield the outcome of every recording as it finishes, `concurrency` of them under way.

    After a failure that would befall all others too, nothing more is begun.

    Args:
        recordings: what to work on.
        ask: answers one.
        concurrency: how many at once.
        progress: show a bar on standard error.
        debug: let a fault of ours pass as it is, instead of as an outcome.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
        # Rich would send what we print for programs to the bar's stream, standard error.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        listening = bar.add_task("listening", total=len(recordings))
        async with aclosing(as_they_finish(ask, recordings, concurrency)) as finished:
            async for recording, task in finished:
                try:
                    outcome = Outcome(recording, task.result(), None)
                except Exception as error:
                    failure = failure_of(error)
                    if debug and failure.error_type == "internal_error":
                        raise
                    outcome = Outcome(recording, None, failure)
                bar.update(listening, advance=1, description=recording.label[-40:])
                yield outcome
                if outcome.failure is not None and outcome.failure.stops_everything:
                    return


def wants_progress(recordings: list[Recording], streams_to_stdout: bool) -> bool:
    """Whether a bar helps: several recordings, a terminal, and no lines that would run into it."""
    collides = streams_to_stdout and sys.stdout.isatty()
    return len(recordings) > 1 and sys.stderr.isatty() and not collides
