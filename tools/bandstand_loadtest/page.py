"""A load test as one HTML page without other files: headline, charts, tables, circumstances.

`templates/page.html` is the page, `templates/page.css` its style; this module computes the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bandstand.errors import UnusableRequestError
from bandstand_loadtest import charts
from bandstand_loadtest.figures import RUN_COLUMNS, Cell, format_figure, mark, run_row, verdict
from bandstand_loadtest.measure import BUSY_SHARE
from bandstand_loadtest.report import Report
from bandstand_loadtest.runs import LEAST_ACCURACY, Check, Run

if TYPE_CHECKING:
    from markupsafe import Markup

_NEEDED = ("jinja2", "matplotlib")


class _Tile(NamedTuple):
    """A figure of the headline."""

    name: str
    figure: str
    note: str


class _Charted(NamedTuple):
    """A chart, and a table of its values."""

    chart: Markup
    rows: list[tuple[Cell, ...]]


def check_can_write() -> None:
    """Check, before any work, that a page can be written.

    Raises:
        UnusableRequestError: Jinja2 or matplotlib is not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UnusableRequestError(
            f"a page with charts needs {' and '.join(missing)}: pip install 'bandstand[bench]'"
        )


def write_page(report: Report, path: Path) -> None:
    """Write the page.

    Raises:
        UnusableRequestError: Jinja2 or matplotlib is not installed.
        OSError: the file cannot be written.
    """
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the page.

    Raises:
        UnusableRequestError: Jinja2 or matplotlib is not installed.
    """
    check_can_write()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bandstand_loadtest"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "format_figure": format_figure,
        "percent": lambda share: f"{100 * share:g}",
    }
    return environment.get_template("page.html").render(_values(report)).lstrip()


def _values(report: Report) -> dict[str, Any]:
    """Return the template's values; the page leaves out parts that are None or empty."""
    runs = [run for run in report.runs if not run.probe]
    return {
        "report": report,
        "tiles": list(_tiles(report)),
        "throughput": _throughput(report),
        "search": _search(report),
        "latency": _latency(runs),
        "stages": _stages(runs),
        "batches": _batches(runs),
        "run_columns": RUN_COLUMNS,
        "runs": [run_row(run) for run in runs],
        "checks": _checks(runs),
        "errors": sorted({name for run in runs for name in run.errors}),
        "circumstances": _circumstances(report),
        "busy_share": BUSY_SHARE,
        "least_accuracy": LEAST_ACCURACY,
    }


def _tiles(report: Report) -> Iterator[_Tile]:
    for run in report.of("single-stream"):
        if run.latency_ms is not None:
            note = f"SingleStream; p50 {format_figure(run.latency_ms.p50)} ms"
            yield _Tile("p90, one at a time", f"{format_figure(run.latency_ms.p90)} ms", note)
    for run in report.of("server"):
        name = "the highest that holds" if report.searched else "as stated"
        tail = "-" if run.latency_ms is None else format_figure(run.latency_ms.p99)
        bound = report.plan.bounds.p99_ms
        note = f"Server, {name}; p99 {tail} ms" + (
            f", bound {format_figure(bound)}" if bound else ""
        )
        yield _Tile("requests a second", format_figure(run.rate or 0.0), note)
    for run in report.of("offline"):
        note = f"Offline; {format_figure(run.requests_per_second)} recordings a second"
        yield _Tile("audio a second", f"{format_figure(run.audio_seconds_per_second)} s", note)
    answers = sum(run.answered for run in report.runs)
    if answers:
        equal = sum(run.accuracy.equal_share * run.answered for run in report.runs) / answers
        note = f"{answers} answers beside f32 in process"
        yield _Tile("same label", f"{100 * equal:.4g} %", note)


def _throughput(report: Report) -> Markup | None:
    swept = [run for run in report.of("sweep") if run.latency_ms is not None]
    return _safe(charts.throughput_latency(swept)) if len(swept) > 1 else None


def _search(report: Report) -> _Charted | None:
    tried = [run for run in report.runs if run.scenario == "server"]
    bound = report.plan.bounds.p99_ms
    if not report.searched or bound is None or not any(run.latency_ms for run in tried):
        return None
    rows: list[tuple[Cell, ...]] = [
        (
            format_figure(run.rate or 0.0),
            "-" if run.latency_ms is None else format_figure(run.latency_ms.p99),
            run.requests,
            verdict(run) if run.probe else verdict(run) + " (confirmed)",
        )
        for run in tried
    ]
    return _Charted(_safe(charts.rate_search(tried, bound)), rows)


def _latency(runs: Sequence[Run]) -> list[tuple[str, Markup]]:
    shown = [run for run in _representative(runs) if run.latency_ms is not None]
    return [(_title(run), _safe(charts.latency_histogram(run))) for run in shown]


def _stages(runs: Sequence[Run]) -> _Charted | None:
    shown = [run for run in _representative(runs) if run.stages]
    if not shown:
        return None
    rows: list[tuple[Cell, ...]] = [
        (
            _title(run),
            stage.name.replace("_", " "),
            *map(format_figure, (stage.mean, stage.p50, stage.p99)),
        )
        for run in shown
        for stage in run.stages
    ]
    return _Charted(_safe(charts.stage_times(shown)), rows)


def _batches(runs: Sequence[Run]) -> list[tuple[str, Markup]]:
    shown = [run for run in _representative(runs) if sum(run.batches.values())]
    return [(_title(run), _safe(charts.batch_sizes(run))) for run in shown]


def _representative(runs: Sequence[Run]) -> list[Run]:
    """Return one run of each scenario; of a sweep, the first and the last."""
    swept = [run for run in runs if run.scenario == "sweep"]
    return [run for run in runs if run.scenario != "sweep" or run in (swept[0], swept[-1])]


def _title(run: Run) -> str:
    return f"{run.scenario}, {run.load}"


def _safe(drawing: str) -> Markup:
    """Mark a chart as SVG, so that it is not escaped."""
    from markupsafe import Markup

    return Markup(drawing)  # noqa: S704 (matplotlib has escaped what it drew)


def _checks(runs: Sequence[Run]) -> list[tuple[Cell, ...]]:
    """Return each check from the run in which it was nearest to its bound, or farthest past it."""
    worst: dict[str, tuple[Run, Check]] = {}
    for run in runs:
        for check in run.checks:
            known = worst.get(f"{check.about} {check.name}")
            if known is None or _closer(check, known[1]):
                worst[f"{check.about} {check.name}"] = (run, check)
    return [
        (
            f"{check.about}: {check.name}",
            f"{format_figure(check.measured)} {check.unit}",
            f"{check.relation} {format_figure(check.bound)} {check.unit}",
            _title(run),
            mark(check.holds),
        )
        for run, check in worst.values()
    ]


def _closer(check: Check, other: Check) -> bool:
    """Whether a check is nearer to its bound, or farther past it."""
    if check.relation == "at most":
        return check.measured > other.measured
    return check.measured < other.measured


def _circumstances(report: Report) -> dict[str, str]:
    machine, clips, server = report.machine, report.clips, report.server
    formats = ", ".join(f"{count} {name}" for name, count in clips.formats.items())
    return {
        "server": f"{server.protocol}, version {server.version}, {server.runtime}",
        "load from": "the machine under test itself" if report.same_host else "another machine",
        "processor": f"{machine.processor}, {machine.cores} cores",
        "memory": f"{machine.memory_gib} GiB",
        "GPU": "; ".join(machine.gpus) or "none seen",
        "load before the test": ", ".join(f"{load:.2f}" for load in machine.load_average),
        "system": f"{machine.system}, Python {machine.python}",
        "packages": ", ".join(f"{name} {v}" for name, v in machine.packages.items()),
        "recordings": f"{clips.count} of {format_figure(clips.shortest_seconds)} to "
        f"{format_figure(clips.longest_seconds)} s ({formats})",
    }
