"""A complete load test of one server, from recordings to a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.settings import Settings
from bandstand_loadtest.clips import ClipStatistics, load_clips
from bandstand_loadtest.machine import Machine
from bandstand_loadtest.report import Report
from bandstand_loadtest.runs import Run
from bandstand_loadtest.scenarios import CONCURRENCIES, LoadTest, Observer, Plan
from bandstand_loadtest.targets.base import RequestFailedError
from bandstand_loadtest.targets.connect import is_local, open_target

Chosen = Literal["single-stream", "server", "offline", "sweep", "all"]

_PRECISION = 0.05
_SEARCH_STARTS_AT = 0.5  # of a sweep's throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions:
    """Options of a load test.

    Attributes:
        scenario: one, or all of them.
        address: of the server, `http(s)://…` or `grpc(s)://…`.
        plan: durations and bounds.
        model: its name.
        api_key: of the server; None: it needs none.
        rate: of the Server scenario, requests a second; with `find`, the first to try.
        find: search for the highest rate within the bounds.
        levels: of the sweep, requests in flight.
        in_flight: of the Offline scenario, requests in flight.
    """

    scenario: Chosen
    address: str
    plan: Plan
    model: str = DEFAULT_MODEL
    api_key: str | None = None
    rate: float | None = None
    find: bool = False
    levels: Sequence[int] = CONCURRENCIES
    in_flight: int = 16

    def check(self) -> None:
        """Check the combination of options.

        Raises:
            ValueError: a scenario lacks an option that it needs, or has one that it does not use.
        """
        of_server = self.find or self.rate is not None
        if self.scenario == "server" and not of_server:
            raise ValueError(
                "the scenario `server` needs a rate, or `find`: a search for the highest that holds"
            )
        if self.scenario not in ("server", "all") and of_server:
            raise ValueError(f"a rate and `find` are of `server`, not `{self.scenario}`")
        if min(self.levels, default=0) < 1:
            raise ValueError("the levels of a sweep are whole numbers above zero")


async def run_load_test(
    files: Sequence[Path],
    options: LoadTestOptions,
    settings: Settings,
    *,
    observer: Observer | None = None,
    command: str = "",
) -> Report:
    """Test a server with recordings; compare each answer with that of the model in process.

    Args:
        files: audio in any accepted format.
        options: of the load test.
        settings: of this process, which computes the reference answers.
        observer: receives the progress.
        command: the command line, for the report.

    Raises:
        BandstandClientError: the server refuses, or cannot be reached, before anything is measured.
        BandstandError: a recording or the model cannot be used here, or the server answers from a
            cache.
        ValueError: a wrong address, or options that cannot be combined.
        OSError: a file that cannot be read.
    """
    options.check()
    observer = observer or Observer()
    machine, started = Machine.here(), datetime.now().astimezone()
    async with open_target(options.address, options.model, api_key=options.api_key) as target:
        server = await target.describe()
        observer.prepares(len(files))
        clips = await load_clips(files, options.model, settings, observer.prepared)
        test = LoadTest(target, clips, options.plan, observer)
        try:
            await test.warm_up()
        except RequestFailedError as error:  # the client's error has more information
            raise error.__cause__ or error from None
        runs, highest = await _scenarios(test, options)
    return Report(
        started=f"{started:%Y-%m-%d %H:%M %Z}",
        command=command,
        server=server,
        same_host=is_local(options.address),
        machine=machine,
        clips=ClipStatistics.of(clips),
        plan=options.plan,
        runs=runs,
        searched=options.find,
        highest_rate=highest,
    )


async def _scenarios(test: LoadTest, options: LoadTestOptions) -> tuple[list[Run], float | None]:
    """Run the scenarios; return the runs, and the highest rate if one was found."""
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
        highest, tried = await test.find_rate(options.rate or _promising(runs), _PRECISION)
        runs += tried
    elif options.rate is not None:
        runs.append(await test.server(options.rate))
    return runs, highest


def _promising(runs: Sequence[Run]) -> float | None:
    """Return a rate that is likely within the bounds, from the runs so far."""
    most = max((run.requests_per_second for run in runs), default=0.0)
    return _SEARCH_STARTS_AT * most or None
