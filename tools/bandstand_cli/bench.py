"""The command that tests a server under load: `bench`."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import typer

from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.places import SAMPLES
from bandstand.settings import get_settings
from bandstand_cli.bench_display import BenchProgress, show_report
from bandstand_cli.bench_targets import is_local, open_target
from bandstand_cli.failures import EXIT_FAILED
from bandstand_cli.inputs import NoSuchInputError, find_recordings
from bandstand_loadtest import charts
from bandstand_loadtest.clips import ClipFacts, load_clips
from bandstand_loadtest.machine import Machine
from bandstand_loadtest.page import write_page
from bandstand_loadtest.report import Report
from bandstand_loadtest.runs import Run
from bandstand_loadtest.scenarios import LoadTest, Plan
from bandstand_loadtest.target import RequestFailedError

Chosen = Literal["single-stream", "server", "offline", "sweep", "all"]

_PRECISION = 0.05
_SEARCH_STARTS_AT = 0.5  # of what a sweep got done


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `bench` was asked for.

    Attributes:
        scenario: one, or all of them.
        address: of the server.
        model: None: the default model.
        rate: of the Server scenario, a second; where one is searched for, the first to try.
        find: search for the highest rate that holds.
        levels: of the sweep.
        in_flight: of the Offline scenario.
        plan: how long, and held to what.
        json: a file to write.
        html: a file to write.
    """

    scenario: Chosen
    address: str
    model: str | None
    rate: float | None
    find: bool
    levels: Sequence[int]
    in_flight: int
    plan: Plan
    json: Path | None
    html: Path | None


def run(inputs: Sequence[str], options: Options) -> None:
    """Test a server; see `bandstand bench --help`."""
    _check(options)
    files = _files(inputs)
    if options.html is not None:
        charts.check_can_draw()
    try:
        report = asyncio.run(_test(files, options))
    except RequestFailedError as error:  # before the test proper: the client's own error tells more
        raise error.__cause__ or error from None
    show_report(report)
    if options.json is not None:
        report.write_json(options.json)
    if options.html is not None:
        write_page(report, options.html)
    if not report.passed:
        raise typer.Exit(EXIT_FAILED)


def read_levels(text: str) -> tuple[int, ...]:
    """Read the levels of a sweep.

    Raises:
        typer.BadParameter: not whole numbers above zero.
    """
    try:
        levels = tuple(int(level) for level in text.split(","))
    except ValueError:
        levels = (0,)
    if min(levels) < 1:
        raise typer.BadParameter(f"--levels takes numbers like 1,2,4, not {text!r}")
    return levels


def _check(options: Options) -> None:
    of_server = options.find or options.rate is not None
    if options.scenario == "server" and not of_server:
        raise typer.BadParameter("say --rate, or --find to search for the highest that holds")
    if options.scenario not in ("server", "all") and of_server:
        raise typer.BadParameter(f"--rate and --find are of `server`, not `{options.scenario}`")


def _files(inputs: Sequence[str]) -> list[Path]:
    try:
        found = find_recordings(inputs or [str(SAMPLES)])
    except NoSuchInputError as error:
        raise typer.BadParameter(str(error)) from error
    files = [recording.path for recording in found if recording.path is not None]
    if len(files) < len(found):
        raise typer.BadParameter("recordings to send are files and folders, not URLs")
    return files


async def _test(files: Sequence[Path], options: Options) -> Report:
    machine, started = Machine.here(), datetime.now().astimezone()
    model = options.model or DEFAULT_MODEL
    async with open_target(options.address, model) as target:
        server = await target.describe()
        with BenchProgress() as progress:
            progress.prepares(len(files))
            clips = await load_clips(files, model, get_settings(), progress.prepared)
            test = LoadTest(target, clips, options.plan, progress.observer)
            await test.warm_up()
            runs, highest = await _scenarios(test, options)
    return Report(
        started=f"{started:%Y-%m-%d %H:%M %Z}",
        command=shlex.join(["bandstand", *sys.argv[1:]]),
        server=server,
        same_host=is_local(options.address),
        machine=machine,
        clips=ClipFacts.of(clips),
        plan=options.plan,
        runs=runs,
        searched=options.find,
        highest_rate=highest,
    )


async def _scenarios(test: LoadTest, options: Options) -> tuple[list[Run], float | None]:
    """Run what was asked for; return the runs, and the highest rate where one was found."""
    chosen = options.scenario
    runs: list[Run] = []
    highest = None
    if chosen in ("single-stream", "all"):
        runs.append(await test.single_stream())
    if chosen in ("sweep", "all"):
        runs += await test.sweep(options.levels)
    if chosen in ("offline", "all"):
        runs.append(await test.offline(options.in_flight))
    if options.find:
        found, tried = await test.find_rate(options.rate or _promising(runs), _PRECISION)
        highest = found.rate
        runs += tried
    elif options.rate is not None:
        runs.append(await test.server(options.rate))
    return runs, highest


def _promising(runs: Sequence[Run]) -> float | None:
    """Return a rate that is likely to hold, from what was measured so far."""
    most = max((run.requests_per_second for run in runs), default=0.0)
    return _SEARCH_STARTS_AT * most or None
