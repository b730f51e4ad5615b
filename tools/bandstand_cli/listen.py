"""The commands that listen to recordings: `classify`, `instruments` and `features`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import typer
from rich.console import RenderableType

from bandstand.pipelines.answers import FeaturesAnswer, GenreAnswer, InstrumentsAnswer
from bandstand_cli.batch import Outcome, answer_all, wants_progress
from bandstand_cli.display import (
    features_chart,
    features_table,
    genre_chart,
    genre_table,
    instruments_chart,
    instruments_table,
    show,
)
from bandstand_cli.engines import Engine, open_engine
from bandstand_cli.failures import EXIT_FAILED, Failure, debugging, show_failure
from bandstand_cli.inputs import NoSuchInputError, Recording, find_recordings
from bandstand_cli.records import csv_file, csv_row, json_line

Answer = TypeVar("Answer", GenreAnswer, InstrumentsAnswer, FeaturesAnswer)

_JOBS_AT_A_SERVER = 8


@dataclass(frozen=True, slots=True)
class Options:
    """What these commands have in common."""

    server: str | None
    json: bool
    csv: Path | None
    jobs: int | None
    debug: bool

    @property
    def jobs_or_default(self) -> int:
        """How many recordings are under way at once: here, as many as there are cores."""
        return self.jobs or (_JOBS_AT_A_SERVER if self.server else os.cpu_count() or 1)

    @property
    def for_programs(self) -> bool:
        """Whether the answers go to programs, so that no table is wanted."""
        return self.json or self.csv is not None

    @property
    def streams_to_stdout(self) -> bool:
        """Whether lines go to standard output while work goes on."""
        return self.json or str(self.csv) == "-"


def classify(inputs: list[str], model: str | None, top_k: int, options: Options) -> None:
    """Name the genre of every input; see `bandstand classify --help`."""

    def bind(engine: Engine) -> Callable[[Recording], Awaitable[GenreAnswer]]:
        return lambda recording: engine.classify(recording, model=model, top_k=top_k)

    _listen(inputs, bind, options, genre_chart, genre_table)


def instruments(
    inputs: list[str], model: str | None, threshold: float | None, options: Options
) -> None:
    """Name the instruments of every input; see `bandstand instruments --help`."""

    def bind(engine: Engine) -> Callable[[Recording], Awaitable[InstrumentsAnswer]]:
        return lambda recording: engine.instruments(recording, model=model, threshold=threshold)

    _listen(inputs, bind, options, instruments_chart, instruments_table)


def features(inputs: list[str], options: Options) -> None:
    """Compute the features of every input; see `bandstand features --help`."""
    _listen(inputs, lambda engine: engine.features, options, features_chart, features_table)


@dataclass(slots=True)
class _Tally(Generic[Answer]):
    """What has come so far; answers are kept only where a table of them will be shown."""

    answers: dict[Recording, Answer] = field(default_factory=dict)
    failures: list[tuple[Recording, Failure]] = field(default_factory=list)
    finished: int = 0


def _listen(
    inputs: list[str],
    bind: Callable[[Engine], Callable[[Recording], Awaitable[Answer]]],
    options: Options,
    chart: Callable[[Recording, Answer], RenderableType],
    table: Callable[[Sequence[tuple[Recording, Answer]]], RenderableType],
) -> None:
    try:
        recordings = find_recordings(inputs)
    except NoSuchInputError as error:
        raise typer.BadParameter(str(error)) from error
    tally = asyncio.run(_work(recordings, bind, options))
    # As they were given, not as they finished.
    rows = [(r, tally.answers[r]) for r in recordings if r in tally.answers]
    if rows:
        show(chart(*rows[0]) if len(recordings) == 1 else table(rows))
    if tally.failures:
        _show_failures(tally, len(recordings))
        raise typer.Exit(EXIT_FAILED)


async def _work(
    recordings: list[Recording],
    bind: Callable[[Engine], Callable[[Recording], Awaitable[Answer]]],
    options: Options,
) -> _Tally[Answer]:
    tally: _Tally[Answer] = _Tally()
    progress = wants_progress(recordings, options.streams_to_stdout)
    jobs = min(options.jobs_or_default, len(recordings))
    with csv_file(options.csv) as rows:
        async with open_engine(options.server) as engine:
            outcomes = answer_all(
                recordings,
                bind(engine),
                jobs=jobs,
                progress=progress,
                debug=debugging(options.debug),
            )
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    _take(outcome, tally, options)
                    if rows is not None and outcome.answer is not None:
                        rows.write(csv_row(outcome.recording.name, outcome.answer))
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
