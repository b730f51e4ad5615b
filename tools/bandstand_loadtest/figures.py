"""Formatting of figures for a terminal or a page."""

from __future__ import annotations

from bandstand_loadtest.runs import Run

Cell = str | int

RUN_COLUMNS = (
    *("run", "sent", "failed", "/s", "audio s/s"),
    *("p50", "p90", "p99", "right", "held"),
)


def run_row(run: Run) -> tuple[Cell, ...]:
    """Return the figures of one run under `RUN_COLUMNS`.

    Answers and seconds of audio are per second; latency is in milliseconds.
    """
    latency = run.latency_ms
    tails: tuple[str, ...] = ("-",) * 3
    if latency is not None:
        tails = tuple(map(format_figure, (latency.p50, latency.p90, latency.p99)))
    return (
        f"{run.scenario}, {run.load}",
        run.requests,
        sum(run.errors.values()),
        format_figure(run.requests_per_second),
        format_figure(run.audio_seconds_per_second),
        *tails,
        f"{100 * run.accuracy.equal_share:.4g} %" if run.answered else "-",
        verdict(run),
    )


def format_figure(value: float) -> str:
    """Return a figure with three digits, if possible without an exponent."""
    return f"{value:.0f}" if 100 <= value < 1e9 else f"{value:.3g}"  # noqa: PLR2004


def mark(holds: bool) -> str:
    """Return a mark for a check: passed or missed."""
    return "yes" if holds else "NO"


def verdict(run: Run) -> str:
    """Return a run's result: passed, missed, or invalid because the generator lagged."""
    return mark(run.holds) if run.valid else "invalid"
