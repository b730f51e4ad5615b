"""The instruments of recordings, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bandstand_cli.display import BAR_CELLS, footer, title
from bandstand_cli.inputs import Recording
from bandstand_cli.presentation import Presentation
from bandstand_client.contract.instruments import InstrumentsAnswer


def instruments_chart(recording: Recording, answer: InstrumentsAnswer) -> RenderableType:
    """The instruments of one recording as bars, the most probable first, and their sounds."""
    chart = Table.grid(padding=(0, 1))
    chart.add_column(justify="right")
    chart.add_column(width=BAR_CELLS)
    chart.add_column(justify="right")
    chart.add_column(style="dim")
    for score in answer.instruments:
        first = score.instrument == answer.primary
        chart.add_row(
            Text(score.instrument, style="bold" if first else ""),
            Bar(100.0, 0.0, score.confidence, width=BAR_CELLS, color="green" if first else "cyan"),
            f"{score.confidence:.1f} %",
            "" if score.sound == "either" else score.sound,
        )
    count = f"{len(answer.instruments)} of {len(answer.all_scores)} instruments"
    summary = f"{answer.method}, {count} from {100 * answer.threshold:g} %"
    return Group(title(recording, answer.audio), chart, footer(summary, answer.timings_ms))


def instruments_table(rows: Sequence[tuple[Recording, InstrumentsAnswer]]) -> RenderableType:
    """One line for each recording: its instruments, the most probable first, and their sounds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    table.add_column("instruments")
    table.add_column("sound", no_wrap=True)
    for recording, answer in rows:
        names = (f"{s.instrument} {s.confidence:.1f} %" for s in answer.instruments)
        sounds = {"acoustic": answer.has_acoustic, "electronic": answer.has_electronic}
        table.add_row(
            Text(recording.name),
            Text("; ".join(names) or "-"),
            Text(", ".join(sound for sound, present in sounds.items() if present)),
        )
    return table


def instruments_row(answer: InstrumentsAnswer) -> dict[str, str | float]:
    """A column for each instrument's probability."""
    return {
        "primary": answer.primary or "",
        "has_acoustic": answer.has_acoustic,
        "has_electronic": answer.has_electronic,
        **answer.all_scores,
    }


INSTRUMENTS = Presentation(
    chart=instruments_chart,
    table=instruments_table,
    row=instruments_row,
)
