"""One operation for many recordings: limited concurrency, a progress bar, and error handling."""

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
    """The result of one recording; either `answer` or `failure` is None."""

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
    """Yield the outcome of every recording as it finishes, with `concurrency` of them in progress.

    After a failure that concerns all recordings, no more are started.

    Args:
        recordings: the inputs.
        ask: computes the answer of one recording.
        concurrency: maximum number in progress.
        progress: show a bar on standard error.
        debug: raise internal errors instead of yielding them as outcomes.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
        # Otherwise Rich redirects our output for programs to the bar's stream, standard error.
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
    """Whether to show a bar: for several recordings, in a terminal, without other output."""
    collides = streams_to_stdout and sys.stdout.isatty()
    return len(recordings) > 1 and sys.stderr.isatty() and not collides
