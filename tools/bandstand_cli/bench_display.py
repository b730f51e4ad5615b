"""A load test in a terminal: its progress and its report."""

from __future__ import annotations

import sys
from collections import deque
from time import perf_counter
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from bandstand_cli.display import show
from bandstand_loadtest.figures import RUN_COLUMNS, format_figure, run_row
from bandstand_loadtest.report import Report
from bandstand_loadtest.samples import Sample
from bandstand_loadtest.scenarios import Observer

_SHOWN_LATENCIES = 500
_REDRAW_SECONDS = 0.25  # drawing takes CPU time from the load


class BenchProgress:
    """One line on standard error: the current run, its progress, the latest latencies."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("", news="")
        self._started = self._drawn = perf_counter()
        self._seconds = 0.0
        self._finished = self._failed = 0
        self._latencies: deque[float] = deque(maxlen=_SHOWN_LATENCIES)
        self.observer = Observer(self._prepares, self._prepared, self._begins, self._finishes)

    def __enter__(self) -> BenchProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _prepares(self, clips: int) -> None:
        """Show that reference answers are computed."""
        self._bar.reset(self._task, total=clips, description="reference answers", news="")
        self._bar.refresh()

    def _prepared(self) -> None:
        """Count one more reference answer."""
        self._bar.advance(self._task)
        self._bar.refresh()

    def _begins(self, what: str, seconds: float) -> None:
        self._started, self._seconds = perf_counter(), seconds
        self._finished = self._failed = 0
        self._latencies.clear()
        self._bar.reset(self._task, total=seconds or None, description=what, news="")
        self._bar.refresh()

    def _finishes(self, sample: Sample) -> None:
        self._finished += 1
        self._failed += sample.error is not None
        self._latencies.append(sample.latency)
        now = perf_counter()
        if self._bar.disable or now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn, elapsed = now, now - self._started
        p50, p99 = np.percentile(self._latencies, [50, 99]) * 1e3
        failed = f", {self._failed} failed" if self._failed else ""
        news = (
            f"{self._finished} requests, {self._finished / elapsed:.1f} a second, "
            f"p50 {format_figure(p50)} ms, p99 {format_figure(p99)} ms{failed}"
        )
        self._bar.update(self._task, completed=min(elapsed, self._seconds), news=news)
        self._bar.refresh()


def show_report(report: Report) -> None:
    """Print the runs as a table, and the missed bounds."""
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(RUN_COLUMNS):
        first = i == 0
        table.add_column(column, justify="left" if first else "right", no_wrap=not first)
    for run in report.runs:
        if not run.probe:
            table.add_row(*map(str, run_row(run)))
    server = report.server
    show(Text(f"{server.model} over {server.protocol} at {server.address}", style="bold"))
    show(table)
    show(Text("latency in ms, counted from when a request was due", style="dim"))
    if report.searched:
        _show_highest(report)
    for line in report.misses:
        show(Text(line, style="bold red"))
    if report.passed:
        show(Text("passed", style="green"))


def _show_highest(report: Report) -> None:
    bound = report.plan.bounds.p99_ms
    if report.highest_rate is not None and bound is not None:
        rate = format_figure(report.highest_rate)
        show(f"highest rate with p99 at most {format_figure(bound)} ms: {rate} requests a second")
