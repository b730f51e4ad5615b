"""Runs an operation on every input of a command, in this process or at a server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import typer

from bandstand_cli.batch import Outcome, answer_all, wants_progress
from bandstand_cli.display import show
from bandstand_cli.engine import open_engine
from bandstand_cli.failures import EXIT_FAILED, Failure, debugging, show_failure
from bandstand_cli.inputs import NoSuchInputError, Recording, find_recordings
from bandstand_cli.presentation import Presentation
from bandstand_cli.records import csv_file, json_line
from bandstand_client.contract.declaration import Operation

Answer = TypeVar("Answer")

_AT_A_SERVER = 8


@dataclass(frozen=True, slots=True)
class Options:
    """The common options of these commands.

    Attributes:
        server: its URL; None: this process.
        json: print one JSON object a line.
        csv: a file to write, with one row for each recording.
        concurrency: recordings in progress; None: the number of cores, or eight at a server.
        debug: show tracebacks.
    """

    server: str | None
    json: bool
    csv: Path | None
    concurrency: int | None
    debug: bool

    @property
    def concurrency_or_default(self) -> int:
        """Maximum number of recordings in progress."""
        return self.concurrency or (_AT_A_SERVER if self.server else os.cpu_count() or 1)

    @property
    def for_programs(self) -> bool:
        """Whether the output is for programs, without a table."""
        return self.json or self.csv is not None

    @property
    def streams_to_stdout(self) -> bool:
        """Whether lines are printed to standard output during the work."""
        return self.json or str(self.csv) == "-"


@dataclass(slots=True)
class _Tally(Generic[Answer]):
    """The outcomes so far; answers are kept only for a table."""

    answers: dict[Recording, Answer] = field(default_factory=dict)
    failures: list[tuple[Recording, Failure]] = field(default_factory=list)
    finished: int = 0


def run_operation(
    operation: Operation[..., Answer],
    inputs: list[str],
    asked: Mapping[str, object],
    presentation: Presentation[Answer],
    options: Options,
) -> None:
    """Run an operation on every input, and show its answers.

    Args:
        operation: the operation.
        inputs: files, directories and URLs.
        asked: the operation's options.
        presentation: of its answers.
        options: of the command.

    Raises:
        typer.BadParameter: an input without recordings.
        typer.Exit: a recording failed.
    """
    try:
        recordings = find_recordings(inputs)
    except NoSuchInputError as error:
        raise typer.BadParameter(str(error)) from error
    tally = asyncio.run(_work(operation, recordings, asked, presentation, options))
    # In the order of the inputs, not as they finished.
    rows = [(r, tally.answers[r]) for r in recordings if r in tally.answers]
    if rows:
        one = len(recordings) == 1
        show(presentation.chart(*rows[0]) if one else presentation.table(rows))
    if tally.failures:
        _show_failures(tally, len(recordings))
        raise typer.Exit(EXIT_FAILED)


async def _work(
    operation: Operation[..., Answer],
    recordings: list[Recording],
    asked: Mapping[str, object],
    presentation: Presentation[Answer],
    options: Options,
) -> _Tally[Answer]:
    tally: _Tally[Answer] = _Tally()
    progress = wants_progress(recordings, options.streams_to_stdout)
    concurrency = min(options.concurrency_or_default, len(recordings))
    with csv_file(options.csv) as rows:
        async with open_engine(options.server) as engine:

            async def ask(recording: Recording) -> Answer:
                return await engine.answer(operation, recording.path or recording.name, asked)

            outcomes = answer_all(
                recordings,
                ask,
                concurrency=concurrency,
                progress=progress,
                debug=debugging(options.debug),
            )
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    _take(outcome, tally, options)
                    if rows is not None and outcome.answer is not None:
                        row = presentation.row(outcome.answer)
                        rows.write({"path": outcome.recording.name, **row})
    return tally


def _take(outcome: Outcome[Answer], tally: _Tally[Answer], options: Options) -> None:
    tally.finished += 1
    if options.json:
        sys.stdout.write(json_line(outcome) + "\n")
        sys.stdout.flush()
    if outcome.failure is not None:
        tally.failures.append((outcome.recording, outcome.failure))
    elif outcome.answer is not None and not options.for_programs:
        tally.answers[outcome.recording] = outcome.answer


def _show_failures(tally: _Tally[Answer], total: int) -> None:
    advised: set[str] = set()
    for recording, failure in tally.failures:
        show_failure(failure, recording.name, advise=failure.error_type not in advised)
        advised.add(failure.error_type)
    if total == 1:
        return
    untried = total - tally.finished
    end = f", {untried} not tried" if untried else ""
    typer.echo(f"{len(tally.failures)} of {total} failed{end}", err=True)
