"""A load test as one HTML page that needs nothing else: headline, charts, tables, circumstances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from bandstand_loadtest import charts
from bandstand_loadtest.figures import RUN_COLUMNS, mark, run_row, said, verdict
from bandstand_loadtest.markup import figure, section, table
from bandstand_loadtest.measure import BUSY_SHARE
from bandstand_loadtest.report import Report
from bandstand_loadtest.runs import LEAST_ACCURACY, Check, Run
from bandstand_loadtest.style import STYLE


def write_page(report: Report, path: Path) -> None:
    """Write the page.

    Raises:
        UnusableRequestError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the page.

    Raises:
        UnusableRequestError: matplotlib is not installed.
    """
    charts.check_can_draw()
    main = [run for run in report.runs if not run.probe]
    sections = (
        _headline(report),
        _throughput(report),
        _latency(main),
        _stages(main),
        _batches(main),
        _all_runs(report.runs),
        _checks(report),
        _circumstances(report),
        _method(report),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Load test of {escape(report.server.model)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _headline(report: Report) -> str:
    kind, word = ("good", "passed") if report.passed else ("bad", "failed")
    server = report.server
    where = f"{server.model} over {server.protocol} at {server.address}, {report.started}"
    return (
        f'<header><h1>Load test</h1><span class="verdict {kind}">{word}</span></header>'
        f'<p class="muted">{escape(where)}</p>{_misses(report)}'
        f'<div class="tiles">{"".join(_tiles(report))}</div>'
    )


def _misses(report: Report) -> str:
    if report.passed:
        return ""
    return f'<ul class="bad">{"".join(f"<li>{escape(line)}</li>" for line in report.misses)}</ul>'


def _tiles(report: Report) -> Iterable[str]:
    for run in report.of("single-stream"):
        if run.latency_ms is not None:
            note = f"SingleStream; p50 {said(run.latency_ms.p50)} ms"
            yield _tile("p90, one at a time", f"{said(run.latency_ms.p90)} ms", note)
    for run in report.of("server"):
        name = "the highest that holds" if report.searched else "as stated"
        tail = "-" if run.latency_ms is None else said(run.latency_ms.p99)
        bound = report.plan.bounds.p99_ms
        yield _tile(
            "requests a second",
            said(run.rate or 0.0),
            f"Server, {name}; p99 {tail} ms" + (f", bound {said(bound)}" if bound else ""),
        )
    for run in report.of("offline"):
        note = f"Offline; {said(run.requests_per_second)} recordings a second"
        yield _tile("audio a second", f"{said(run.audio_seconds_per_second)} s", note)
    answers = sum(run.answered for run in report.runs)
    if answers:
        equal = sum(run.accuracy.equal_share * run.answered for run in report.runs) / answers
        note = f"{answers} answers beside f32 in process"
        yield _tile("same label", f"{100 * equal:.4g} %", note)


def _tile(name: str, figure: str, note: str) -> str:
    return f'<div class="tile">{name}<b>{figure}</b><small>{note}</small></div>'


def _throughput(report: Report) -> str:
    parts = []
    swept = [run for run in report.of("sweep") if run.latency_ms is not None]
    if len(swept) > 1:
        caption = (
            "Closed loop: so many requests under way at a time. Down and to the right is better."
        )
        drawing = charts.throughput_latency(swept)
        parts.append(section("Throughput and latency", figure(drawing, caption)))
    tried = [run for run in report.runs if run.scenario == "server"]
    bound = report.plan.bounds.p99_ms
    if report.searched and bound is not None and any(run.latency_ms for run in tried):
        caption = (
            "Each point is a run with random arrivals. One that can no longer hold is cut short."
        )
        body = (
            f'<div class="pair">{figure(charts.rate_search(tried, bound), caption)}'
            f"{_tries(tried)}</div>"
        )
        parts.append(section("Search for the highest rate", body))
    return "".join(parts)


def _tries(tried: Sequence[Run]) -> str:
    rows = [
        (
            said(run.rate or 0.0),
            "-" if run.latency_ms is None else said(run.latency_ms.p99),
            run.requests,
            verdict(run) if run.probe else verdict(run) + " (confirmed)",
        )
        for run in tried
    ]
    return table(("a second", "p99 (ms)", "requests", "held"), rows)


def _latency(runs: Sequence[Run]) -> str:
    told = [run for run in _telling(runs) if run.latency_ms is not None]
    figures = (
        figure(charts.latency_histogram(run), "", f"{run.scenario}, {run.load}") for run in told
    )
    note = (
        "Counted from when a request was due, not from when it could be sent: what waits behind a "
        "slow answer is late, and shows."
    )
    return section("Latency", f'<div class="pair">{"".join(figures)}</div>', note) if told else ""


def _stages(runs: Sequence[Run]) -> str:
    told = [run for run in _telling(runs) if run.stages]
    if not told:
        return ""
    note = (
        "From the answers' own timings. Hops and waiting: handing over between processes, and "
        "queues there. Outside: the way there and back, and waiting to be let in."
    )
    rows = [
        (
            f"{run.scenario}, {run.load}",
            stage.name.replace("_", " "),
            *map(said, (stage.mean, stage.p50, stage.p99)),
        )
        for run in told
        for stage in run.stages
    ]
    figures = table(("run", "stage", "mean (ms)", "p50 (ms)", "p99 (ms)"), rows)
    drawing = charts.stage_times(told)
    details = f"<details><summary>The same in figures</summary>{figures}</details>"
    return section("Where the time went", figure(drawing, "") + details, note)


def _batches(runs: Sequence[Run]) -> str:
    told = [run for run in _telling(runs) if sum(run.batches.values())]
    figures = (figure(charts.batch_sizes(run), "", f"{run.scenario}, {run.load}") for run in told)
    note = "What the server counted while the run lasted, other clients' requests included."
    return (
        section("Batch sizes", f'<div class="pair">{"".join(figures)}</div>', note) if told else ""
    )


def _telling(runs: Sequence[Run]) -> list[Run]:
    """Return one run a scenario; of a sweep, the first and the last."""
    swept = [run for run in runs if run.scenario == "sweep"]
    return [run for run in runs if run.scenario != "sweep" or run in (swept[0], swept[-1])]


def _all_runs(runs: Sequence[Run]) -> str:
    rows = [run_row(run) for run in runs if not run.probe]
    return section(
        "All runs",
        table(RUN_COLUMNS, rows),
        "Answers and seconds of audio a second; latency in milliseconds.",
    )


def _checks(report: Report) -> str:
    runs = [run for run in report.runs if not run.probe]
    worst: dict[str, tuple[Run, Check]] = {}
    for run in runs:
        for check in run.checks:
            known = worst.get(f"{check.about} {check.name}")
            if known is None or _closer(check, known[1]):
                worst[f"{check.about} {check.name}"] = (run, check)
    rows = [
        (
            f"{check.about}: {check.name}",
            f"{said(check.measured)} {check.unit}",
            f"{check.relation} {said(check.bound)} {check.unit}",
            f"{run.scenario}, {run.load}",
            mark(check.holds),
        )
        for run, check in worst.values()
    ]
    errors = sorted({name for run in runs for name in run.errors})
    told = f"<p>Failures: {escape(', '.join(errors))}.</p>" if errors else ""
    columns = ("check", "worst", "bound", "in", "held")
    return section("What the runs were held to", table(columns, rows) + told)


def _closer(check: Check, other: Check) -> bool:
    """Whether a check is nearer to its bound, or farther past it."""
    if check.relation == "at most":
        return check.measured > other.measured
    return check.measured < other.measured


def _circumstances(report: Report) -> str:
    machine, clips, server = report.machine, report.clips, report.server
    formats = ", ".join(f"{count} {name}" for name, count in clips.formats.items())
    where = "the machine under test itself" if report.same_host else "another machine"
    facts = {
        "command": f"<code>{escape(report.command)}</code>",
        "server": escape(f"{server.protocol}, version {server.version}, {server.runtime}"),
        "load from": where,
        "processor": escape(f"{machine.processor}, {machine.cores} cores"),
        "memory": f"{machine.memory_gib} GiB",
        "GPU": escape("; ".join(machine.gpus) or "none seen"),
        "load before the test": ", ".join(f"{load:.2f}" for load in machine.load_average),
        "system": escape(f"{machine.system}, Python {machine.python}"),
        "packages": escape(", ".join(f"{name} {v}" for name, v in machine.packages.items())),
        "recordings": f"{clips.count} of {said(clips.shortest_seconds)} to "
        f"{said(clips.longest_seconds)} s ({escape(formats)})",
    }
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in facts.items())
    return section(
        "Circumstances", f'<div class="scroll"><table class="facts">{rows}</table></div>'
    )


def _method(report: Report) -> str:
    bounds = report.plan.bounds
    notes = (
        "SingleStream, Server and Offline are the shapes of MLPerf inference, with shorter runs: "
        f"{said(report.plan.seconds)} s and {report.plan.fewest} requests at least.",
        f"A request that the generator sends more than {said(bounds.late_ms)} ms after it was due "
        f"counts as late; a run with more than {100 * bounds.late_share:g} % of them, or with a "
        f"generator that uses more than {100 * BUSY_SHARE:g} % of a core, is not valid.",
        "Every answer is compared with what the same model says in process, in f32 on ONNX "
        f"Runtime; {100 * LEAST_ACCURACY:g} % must have the same label.",
        "Nothing is repeated: a refusal (429) is a failed request.",
        "Answers from the server's caches were allowed."
        if bounds.allow_cache
        else "Answers from the server's caches fail a run.",
    )
    lines = "".join(f"<li>{note}</li>" for note in notes)
    return section("How it was measured", f'<ul class="muted">{lines}</ul>')
