"""A fitted model in a terminal: its table, its quality, and the next steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bandstand_training.own_model import Trained
from bandstand_training.table import FeatureTable

_CONFUSIONS = 12
_PADDING = 2
_SPACE = (1, 0, 0, 0)  # a line above


def table_summary(path: Path, table: FeatureTable) -> RenderableType:
    """Return a line about the table."""
    counts = f"{path.name}: {len(table.clips)} clips, {len(table.classes)} labels"
    if table.groups is not None:
        return Text(f"{counts}, {len(set(table.groups))} groups by {table.group_column}")
    warning = "no column `group` or `artist`: clips of one artist can be on both sides of a fold"
    return Group(Text(counts), Text(warning, style="yellow"))


def report_of(trained: Trained, table: FeatureTable) -> RenderableType:
    """Accuracy, weighted F1 and the confusion matrix, with their protocol."""
    quality = trained.quality
    counts = trained.confusion.sum(axis=1)
    commonest = int(counts.argmax())
    figures = Table.grid(padding=(0, _PADDING))
    figures.add_row("accuracy", f"{100 * quality.accuracy:.1f} %")
    figures.add_row("weighted F1", f"{quality.weighted_f1:.3f}")
    guess = f"{100 * counts[commonest] / counts.sum():.1f} %"
    figures.add_row("by guessing", f"{guess} (always {table.classes[commonest]})")
    return Group(
        Padding(Text(quality.protocol, style="bold"), _SPACE),
        figures,
        Padding(Text("Rows: labels of the clips; columns: predictions", "bold"), _SPACE),
        _Confusions(trained.confusion, table.classes),
    )


def next_steps(path: Path, clips: int) -> str:
    """Return the file and the ways to use it; lines are not wrapped, so they can be pasted."""
    return (
        f"\nwrote {path} ({path.stat().st_size / 1e3:.0f} kB), fitted to all {clips} clips\n"
        "Use it from Python:\n"
        "  from bandstand_training.genre_classifier import GenreClassifier\n"
        f"  GenreClassifier({str(path)!r}).top_k(features)\n"
        "Serve it: docs/training.md describes how to write its card."
    )


class _Confusions:
    """The confusion matrix; in a narrow terminal, its largest errors."""

    def __init__(self, confusion: Any, classes: tuple[str, ...]) -> None:
        self._confusion = confusion
        self._classes = classes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the terminal's width."""
        cell = max(len(str(self._confusion.max())), len(str(len(self._classes)))) + _PADDING
        names = max(map(len, self._classes)) + len(str(len(self._classes))) + 1
        right = len("  right") + len(" %")
        wide = names + right + cell * len(self._classes) + _PADDING
        yield self._matrix() if wide <= options.max_width else self._largest()

    def _matrix(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        table.add_column("right", justify="right", no_wrap=True)
        for i in range(len(self._classes)):
            table.add_column(str(i + 1), justify="right", no_wrap=True)
        for i, (name, row) in enumerate(zip(self._classes, self._confusion, strict=True)):
            cells = [Text(str(n), "bold green" if i == j else "") for j, n in enumerate(row)]
            table.add_row(f"{i + 1} {name}", _share(row[i], row.sum()), *cells)
        return table

    def _largest(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in ("is", "taken for"):
            table.add_column(title, overflow="fold")
        for title in ("clips", "of its"):
            table.add_column(title, justify="right", no_wrap=True)
        wrong = self._confusion * (1 - np.eye(len(self._classes), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
            if wrong[i, j]:
                row = self._confusion[i]
                table.add_row(
                    Text(self._classes[i]), Text(self._classes[j]), str(wrong[i, j]), str(row.sum())
                )
        return table


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"
