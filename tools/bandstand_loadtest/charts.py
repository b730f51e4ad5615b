"""The charts of a load test's page: inline SVG, with the colours of the page's style."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bandstand_loadtest.runs import Run

# Placeholder colours for matplotlib; the page's style replaces them.
_INK, _MUTED, _GRID, _SURFACE = "#010101", "#020202", "#030303", "#040404"
_SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006", "#0a0007")
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _SURFACE: "var(--surface)",
    **{colour: f"var(--series-{i + 1})" for i, colour in enumerate(_SERIES)},
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "grid.color": _GRID,
}
_WIDE, _NARROW = (9.4, 3.9), (4.6, 3.1)
_ROW_INCHES, _MARGIN_INCHES = 0.46, 1.1
_FEWEST_BARS = 6  # the width is for at least so many bars; one alone would be too wide


def throughput_latency(runs: Sequence[Run]) -> str:
    """Draw latency over requests a second, a point for each number of requests in flight."""
    figure, axes = _figure(_WIDE)
    measured = [(run, run.latency_ms) for run in runs if run.latency_ms is not None]
    rates = [run.requests_per_second for run, _ in measured]
    for colour, name in zip(
        (_SERIES[0], _SERIES[1], _SERIES[2]), ("p50", "p90", "p99"), strict=True
    ):
        values = [getattr(latency, name) for _, latency in measured]
        axes.plot(rates, values, "o-", color=colour, label=name, markersize=5, linewidth=1.8)
    for run, latency in measured:
        axes.annotate(
            f"{run.in_flight}",
            (run.requests_per_second, latency.p99),
            textcoords="offset points",
            xytext=(0, 7),
            ha="center",
            color=_MUTED,
            fontsize=9,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0, top=max(latency.p99 for _, latency in measured) * 1.12)
    axes.set_xlabel("answers a second (the numbers: requests in flight)")
    axes.set_ylabel("latency, ms")
    axes.grid(axis="y")
    _legend(axes, loc="upper left", ncols=3)
    return _svg(figure, "Latency over throughput")


def rate_search(runs: Sequence[Run], bound_ms: float) -> str:
    """Draw the p99 of each rate that was tried, with the bound."""
    figure, axes = _figure(_NARROW)
    rates: dict[bool, list[float]] = {True: [], False: []}
    tails: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        if run.rate is not None and run.latency_ms is not None:
            rates[run.holds].append(run.rate)
            tails[run.holds].append(run.latency_ms.p99)
    axes.axhline(bound_ms, color=_SERIES[2], linewidth=1.4, linestyle="--")
    axes.annotate(
        f"bound {bound_ms:g} ms",
        (0.0, bound_ms),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        xytext=(4, 4),
        color=_MUTED,
        fontsize=9,
    )
    axes.plot(rates[True], tails[True], "o", color=_SERIES[0], label="held")
    axes.plot(
        rates[False], tails[False], "o", color=_SERIES[2], fillstyle="none", label="did not hold"
    )
    axes.set_xlim(left=0)
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)
    axes.set_xlabel("requests a second")
    axes.set_ylabel("p99 latency, ms")
    axes.grid(axis="y")
    _legend(axes, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return _svg(figure, "Search for the highest rate")


def latency_histogram(run: Run) -> str:
    """Draw the histogram of latencies, with the percentiles as lines."""
    figure, axes = _figure(_NARROW)
    latency = run.latency_ms
    if latency is not None:
        edges = np.array(latency.edges)
        axes.bar(
            edges[:-1],
            latency.counts,
            np.diff(edges),
            align="edge",
            color=_SERIES[0],
            edgecolor=_SURFACE,
            linewidth=1.0,
        )
        top = max(latency.counts) * 1.3
        axes.set_ylim(0, top)
        for height, name in ((0.98, "p50"), (0.91, "p90"), (0.84, "p99")):
            value = getattr(latency, name)
            axes.axvline(value, color=_MUTED, linewidth=1.0, linestyle=":")
            axes.annotate(
                f" {name} {_number(value)}", (value, height * top), color=_INK, fontsize=9, va="top"
            )
        axes.set_xscale("log")
        # Room for the label of the highest percentile.
        axes.set_xlim(edges[0] / 1.1, edges[-1] * max(1.5, (edges[-1] / edges[0]) ** 0.35))
        _plain_ticks(axes.xaxis)
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("answers")
    axes.grid(axis="y")
    return _svg(figure, f"Latency of {run.scenario}, {run.load}")


def stage_times(runs: Sequence[Run]) -> str:
    """Draw the average latency of each run, divided into its stages."""
    measured = [run for run in runs if run.stages]
    names = list(dict.fromkeys(stage.name for run in measured for stage in run.stages))
    figure, axes = _figure((_WIDE[0], _MARGIN_INCHES + _ROW_INCHES * len(measured)))
    labels = [f"{run.scenario}, {run.load}" for run in measured]
    left = np.zeros(len(measured))
    for name, colour in zip(names, _stage_colours(names), strict=True):
        means = [next((s.mean for s in run.stages if s.name == name), 0.0) for run in measured]
        axes.barh(
            labels, means, left=left, color=colour, edgecolor=_SURFACE, label=name.replace("_", " ")
        )
        left += means
    axes.invert_yaxis()
    axes.set_xlabel("average milliseconds")
    axes.grid(axis="x")
    _legend(axes, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=7, borderaxespad=0.2)
    return _svg(figure, "Where the time went")


def batch_sizes(run: Run) -> str:
    """Draw the number of batches of each size."""
    figure, axes = _figure(_NARROW)
    largest = max(i for i, count in enumerate(run.batches.values()) if count)
    shown = list(run.batches.items())[: largest + 1]
    axes.bar([size for size, _ in shown], [n for _, n in shown], color=_SERIES[1], width=0.7)
    axes.set_xlim(-0.6, max(len(shown), _FEWEST_BARS) - 0.4)
    axes.set_xlabel("rows in a batch")
    axes.set_ylabel("batches")
    axes.grid(axis="y")
    return _svg(figure, f"Batch sizes of {run.scenario}, {run.load}")


def _stage_colours(names: Sequence[str]) -> list[str]:
    """Give stages the series' colours in turn, and waiting times a grey one."""
    working = iter(_SERIES * (1 + len(names) // len(_SERIES)))
    return [_MUTED if name == "outside" else next(working) for name in names]


def _figure(inches: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.subplots()
        axes.tick_params(length=0)
    return figure, axes


def _legend(axes: Any, **where: Any) -> None:
    axes.legend(frameon=False, labelcolor=_INK, columnspacing=1.2, handlelength=1.4, **where)


def _plain_ticks(axis: Any) -> None:
    """Write 200 instead of 2e2 on a logarithmic axis, with few ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)  # noqa: PLR2004
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="both", length=0)


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _svg(figure: Any, title: str) -> str:
    """Return an `<svg>` element for a page, with ids that no other chart uses."""
    import matplotlib as mpl

    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    drawing = target.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    # The page's font, and the full width.
    drawing = drawing.replace("'sans-serif'", "var(--font)").replace(
        "<svg ", f'<svg role="img" aria-label="{title}" ', 1
    )
    drawing = re.sub(r'(<svg [^>]*?)width="([\d.]+)pt" height="[\d.]+pt"', r"\1", drawing, count=1)
    drawing = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", drawing)
    for colour, variable in _VARIABLES.items():
        drawing = drawing.replace(colour, variable)
    return drawing
