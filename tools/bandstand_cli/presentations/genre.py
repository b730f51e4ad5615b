"""The genre of recordings, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bandstand_cli.display import BAR_CELLS, footer, title
from bandstand_cli.inputs import Recording
from bandstand_cli.presentation import Presentation
from bandstand_client.contract.genre import GenreAnswer


def genre_chart(recording: Recording, answer: GenreAnswer) -> RenderableType:
    """Every genre of one recording as a bar, the most probable first."""
    chart = Table.grid(padding=(0, 1))
    chart.add_column(justify="right")
    chart.add_column(width=BAR_CELLS)
    chart.add_column(justify="right")
    ranked = sorted(answer.all_scores.items(), key=lambda entry: -entry[1])
    for genre, score in ranked:
        first = genre == answer.primary_genre
        chart.add_row(
            Text(genre, style="bold" if first else ""),
            Bar(1.0, 0.0, score, width=BAR_CELLS, color="green" if first else "cyan"),
            f"{100 * score:.1f} %",
        )
    return Group(title(recording, answer.audio), chart, footer(answer.method, answer.timings_ms))


def genre_table(rows: Sequence[tuple[Recording, GenreAnswer]]) -> RenderableType:
    """One line for each recording: genre, confidence, second genre."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    table.add_column("genre", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("", width=BAR_CELLS // 2)
    table.add_column("runner-up", no_wrap=True)
    for recording, answer in rows:
        others = sorted(answer.all_scores.items(), key=lambda entry: -entry[1])[1:2]
        table.add_row(
            Text(recording.name),
            Text(answer.primary_genre, style="bold"),
            f"{answer.confidence:.1f} %",
            Bar(100.0, 0.0, answer.confidence, width=BAR_CELLS // 2, color="green"),
            Text(", ".join(f"{genre} {100 * score:.1f} %" for genre, score in others)),
        )
    return table


def genre_row(answer: GenreAnswer) -> dict[str, str | float]:
    """A column for each genre's probability."""
    return {
        "primary_genre": answer.primary_genre,
        "confidence": answer.confidence,
        **answer.all_scores,
    }


GENRE = Presentation(
    chart=genre_chart,
    table=genre_table,
    row=genre_row,
)
