"""The audio features of recordings, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bandstand_cli.display import footer, title
from bandstand_cli.inputs import Recording
from bandstand_cli.presentation import Presentation
from bandstand_client.contract.features import FeaturesAnswer


@dataclass(frozen=True, slots=True)
class _Reading:
    """A feature's name, unit and meaning for people."""

    feature: str
    title: str
    unit: str
    meaning: str
    digits: int = 0


_SHOWN = (
    _Reading("tempo", "tempo", "BPM", "beats a minute"),
    _Reading("rms_mean", "loudness", "", "root mean square, 1 is full scale", 3),
    _Reading("spectral_centroid_mean", "centroid", "Hz", "centre of the spectrum: brightness"),
    _Reading("rolloff_mean", "rolloff", "Hz", "85 % of the spectrum is below"),
    _Reading("spectral_bandwidth_mean", "bandwidth", "Hz", "spread around the centroid"),
    _Reading("zero_crossing_rate_mean", "zero crossings", "", "a sample: noisiness", 3),
    _Reading("chroma_stft_mean", "chroma", "", "1: all pitch classes are equal", 3),
)
_SHORT_LIST = _SHOWN[:4]  # as many as fit in a narrow terminal


def features_chart(recording: Recording, answer: FeaturesAnswer) -> RenderableType:
    """The most useful features of one recording, with their meanings."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    for reading in _SHOWN:
        if reading.feature in answer.features:
            value = f"{answer.features[reading.feature]:.{reading.digits}f}"
            name = Text(reading.title, style="bold")
            table.add_row(name, value, reading.unit, reading.meaning)
    count = f"{len(answer.features)} features in all: --json or --csv"
    return Group(title(recording, answer.audio), table, footer(count, answer.timings_ms))


def features_table(rows: Sequence[tuple[Recording, FeaturesAnswer]]) -> RenderableType:
    """One line for each recording with its most useful features."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    for reading in _SHORT_LIST:
        unit = f" {reading.unit}" if reading.unit else ""
        table.add_column(reading.title + unit, justify="right", no_wrap=True)
    for recording, answer in rows:
        values = (
            f"{answer.features[reading.feature]:.{reading.digits}f}"
            if reading.feature in answer.features
            else "-"
            for reading in _SHORT_LIST
        )
        table.add_row(Text(recording.name), *values)
    return table


def features_row(answer: FeaturesAnswer) -> dict[str, str | float]:
    """A column for each feature."""
    return dict(answer.features)


FEATURES = Presentation(
    chart=features_chart,
    table=features_table,
    row=features_row,
)
