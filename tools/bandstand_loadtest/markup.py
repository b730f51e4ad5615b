"""The parts that a load test's page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bandstand_loadtest.figures import Cell


def section(title: str, body: str, note: str = "") -> str:
    """Return a heading, a note below it, and what it heads (HTML)."""
    told = f'<p class="muted">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{told}{body}</section>"


def figure(drawing: str, caption: str, title: str = "") -> str:
    """Return a drawing (HTML) with a title above it and a caption below (plain text)."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    foot = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{head}{drawing}{foot}</figure>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table of plain text, which scrolls by itself where there is no room."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
