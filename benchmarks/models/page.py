"""Render `docs/models.md` from the cards, the results, and the notes on each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from bandstand.models.card import Card, OnsetWindow, Source
from bandstand.models.repository import install_command
from benchmarks.models.results import Answer, ExportResult, ModelResult, Weights
from harness import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "models.md"
NOTES = PROJECT_ROOT / "docs" / "models"
"""`<name>.md`: notes on a model."""
COMMAND = "python -m benchmarks.models"
NOTHING = "—"

_WEIGHTS: dict[Weights, str] = {
    "card": "the card's",
    "random": "random, of the real size",
    "other": "another checkpoint's",
}
_CATALOGUE = ("model", "task", "architecture", "front end", "window", "source", "licence", "get it")
_MEASURED = (
    "model",
    "weights",
    "precision",
    "MB",
    "largest difference",
    "over the largest logit",
    "same best label",
    "in a batch and alone",
    "export, s",
    "proof, s",
    "peak, GB",
    "ms a window",
    "CPU ms",
    "ms in a batch of 8",
    "runs in",
)


def render(
    cards: Mapping[str, Card], results: Mapping[str, ModelResult], notes: Path = NOTES
) -> str:
    """Return the page; the same inputs give the same text.

    Args:
        cards: all models, by name.
        results: of those that were measured.
        notes: the folder of the texts about models, `<name>.md`.

    Raises:
        FileNotFoundError: there is no text about a model.
    """
    lines = [
        "# Models",
        "",
        f"Made by `{COMMAND}` from the cards, the export reports, its own measurements",
        "and the texts in `docs/models/`, which are the place to edit.",
        "",
        "## What there is",
        "",
        *_table(_CATALOGUE, [_catalogue_row(card) for card in cards.values()]),
        "",
        "## Parity and speed",
        "",
        *_table(_MEASURED, list(_measured_rows(cards, results))),
        "",
        *_how_to_read(results),
    ]
    for card in cards.values():
        lines += ["", *_section(card, results.get(card.name), notes)]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _catalogue_row(card: Card) -> tuple[str, ...]:
    window = f"{card.window.seconds:g} s at {card.window.sample_rate / 1000:g} kHz"
    if isinstance(card.window, OnsetWindow):
        window += ", at onsets"
    return (
        card.name,
        card.task,
        card.architecture,
        card.front_end.kind,
        window,
        _source(card.source),
        card.source.licence,
        "embedded" if card.embedded else f"`{install_command(card.name)}`",
    )


def _source(source: Source) -> str:
    parts = urlsplit(source.uri)
    if parts.scheme != "https":
        return f"`{source.uri}`"
    owner, name, _ = parts.path.lstrip("/").split("/", 2)
    return f"[{owner}/{name}]({source.uri})"


def _measured_rows(
    cards: Mapping[str, Card], results: Mapping[str, ModelResult]
) -> Iterator[tuple[str, ...]]:
    for name in cards:
        if name in results:
            yield from (_measured_row(name, export) for export in results[name].exports)
        else:
            yield (name, f"`{install_command(name)}`", *(NOTHING,) * (len(_MEASURED) - 2))


def _measured_row(name: str, export: ExportResult) -> tuple[str, ...]:
    speed, peak = export.speed, export.peak_memory_bytes
    return (
        name,
        _WEIGHTS[export.weights],
        export.precision,
        f"{export.model_bytes / 1e6:.1f}",
        f"{export.source_absolute:.1e}",
        f"{export.source_relative:.1e}",
        f"{export.examples} of {export.examples}",
        f"{export.batch_absolute:.1e}" if export.batch_absolute else "equal",
        f"{export.export_seconds:.0f}",
        f"{export.proof_seconds:.0f}",
        NOTHING if peak is None else f"{peak / 1e9:.1f}",
        f"{speed.milliseconds:.3g}",
        f"{speed.cpu_milliseconds:.3g}",
        f"{speed.batch_milliseconds:.3g}",
        f"{speed.runtime} {speed.arithmetic}",
    )


def _how_to_read(results: Mapping[str, ModelResult]) -> list[str]:
    points = [
        "Differences are those of logits from the source framework's, on real recordings and "
        "silence, each in batches of 1, 3 and 8; an export with another best label for one of them "
        "is refused.",
        "Smaller precisions are compared with the same source. What stands under *runs in* is the "
        "arithmetic that is chosen here by itself; bf16 moves logits further than the file does.",
        "Random weights prove parity and speed. They say nothing of accuracy, and not much of best "
        "labels.",
        "Times are those of the fastest call, from samples to logits, with all cores: one window "
        "alone, and one of a batch of 8. `genre_features` computes its features in them.",
        *_machines(results),
    ]
    return [f"- {point}" for point in points]


def _machines(results: Mapping[str, ModelResult]) -> Iterator[str]:
    groups: dict[tuple[str, int, bool], list[str]] = {}
    for name, result in sorted(results.items()):
        at = result.measured_on
        said = f"{name} {at.date}, load {at.load_average:.1f}"
        groups.setdefault((at.cpu, at.cores, at.has_bf16), []).append(said)
    for (cpu, cores, bf16), models in groups.items():
        arithmetic = "with" if bf16 else "without"
        yield f"Measured on {cores} cores of {cpu}, {arithmetic} bf16: {'; '.join(models)}."


def _section(card: Card, result: ModelResult | None, notes: Path) -> list[str]:
    text = (notes / f"{card.name}.md").read_text(encoding="utf-8").strip()
    lines = [f"## {card.name}", "", card.description, f"Trained on: {card.source.trained_on}."]
    if card.quality:
        rows = [
            (q.protocol, f"{q.accuracy:.3f}", f"{q.weighted_f1:.3f}", str(q.examples), q.note)
            for q in card.quality
        ]
        columns = ("protocol", "accuracy", "weighted F1", "examples", "note")
        lines += ["", *_table(columns, rows)]
    lines += ["", text]
    if result is not None and result.answers:
        lines += ["", "What it says of whole recordings:", ""]
        lines += _table(("recording", "likeliest"), [_answer_row(a) for a in result.answers])
    return lines


def _answer_row(answer: Answer) -> tuple[str, str]:
    said = (f"{label.rpartition('---')[2]} {p:.0%}" for label, p in answer.scores.items())
    return answer.recording.replace("_", " "), ", ".join(said)
