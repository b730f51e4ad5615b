"""A whole load test of one server, from recordings to a report."""

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
_SEARCH_STARTS_AT = 0.5  # of what a sweep got done


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions:
    """What is tested, and how.

    Attributes:
        scenario: one, or all of them.
        address: of the server, `http(s)://…` or `grpc(s)://…`.
        plan: how long, and held to what.
        model: the card that answers.
        api_key: of the server; None: it needs none.
        rate: of the Server scenario, a second; where one is searched for, the first to try.
        find: search for the highest rate that holds.
        levels: of the sweep, requests under way.
        in_flight: of the Offline scenario, requests under way.
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
        """Check that the options go together.

        Raises:
            ValueError: a scenario without what it needs, or with what it does not use.
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
    """Test a server with recordings; each answer is compared with what the model says in process.

    Args:
        files: audio in any accepted format.
        options: what is tested, and how.
        settings: of this process, where the reference answers are made.
        observer: where progress is told.
        command: what makes the figures again, for the report.

    Raises:
        BandstandClientError: the server refuses, or cannot be reached, before anything is measured.
        BandstandError: a recording or the model cannot be used here, or the server answers from a
            cache.
        ValueError: no such address, or options that do not go together.
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
        except RequestFailedError as error:  # the client's own error tells more
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
        highest, tried = await test.find_rate(options.rate or _promising(runs), _PRECISION)
        runs += tried
    elif options.rate is not None:
        runs.append(await test.server(options.rate))
    return runs, highest


def _promising(runs: Sequence[Run]) -> float | None:
    """Return a rate that is likely to hold, from what was measured so far."""
    most = max((run.requests_per_second for run in runs), default=0.0)
    return _SEARCH_STARTS_AT * most or None
