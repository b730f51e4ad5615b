"""Presentations of answers: one for each operation, and a default for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bandstand_cli.display import footer, title
from bandstand_cli.inputs import Recording

A = TypeVar("A")
Row = dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Presentation(Generic[A]):
    """The presentation of one operation's answers.

    Attributes:
        chart: of one recording.
        table: of several, one line each.
        row: of one recording in a CSV file, without its path.
    """

    chart: Callable[[Recording, A], RenderableType]
    table: Callable[[Sequence[tuple[Recording, A]]], RenderableType]
    row: Callable[[A], Row]


def plain_row(answer: Any) -> Row:
    """Return an answer's numbers and texts by name, including those of its mappings."""
    row: Row = {}
    for field in fields(answer):
        value = getattr(answer, field.name)
        if field.name == "timings_ms":
            continue
        if isinstance(value, str | int | float):
            row[field.name] = value
        elif isinstance(value, Mapping):
            row |= {key: inner for key, inner in value.items() if isinstance(inner, str | float)}
    return row


def _plain_chart(recording: Recording, answer: Any) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    for name, value in plain_row(answer).items():
        table.add_row(Text(name, style="bold"), _text(value))
    return Group(title(recording, answer.audio), table, footer("", answer.timings_ms))


def _plain_table(rows: Sequence[tuple[Recording, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    names = [f.name for f in fields(rows[0][1]) if f.name in plain_row(rows[0][1])]
    for name in names:
        table.add_column(name, justify="right")
    for recording, answer in rows:
        row = plain_row(answer)
        table.add_row(Text(recording.name), *(_text(row[name]) for name in names))
    return table


def _text(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


PLAIN: Presentation[Any] = Presentation(_plain_chart, _plain_table, plain_row)
"""For operations without their own presentation."""
