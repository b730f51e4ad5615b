"""Answers for people: charts and tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bandstand.pipelines.answers import AudioFacts, FeaturesAnswer, GenreAnswer, InstrumentsAnswer
from bandstand_cli.inputs import Recording

_BAR_CELLS = 24


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a feature is read by people."""

    feature: str
    title: str
    unit: str
    meaning: str
    digits: int = 0


_TELLING = (
    _Reading("tempo", "tempo", "BPM", "beats a minute"),
    _Reading("rms_mean", "loudness", "", "root mean square, 1 is full scale", 3),
    _Reading("spectral_centroid_mean", "centroid", "Hz", "where the spectrum balances: brightness"),
    _Reading("rolloff_mean", "rolloff", "Hz", "85 % of the spectrum lies below"),
    _Reading("spectral_bandwidth_mean", "bandwidth", "Hz", "how far it spreads around that"),
    _Reading("zero_crossing_rate_mean", "zero crossings", "", "a sample: noisiness", 3),
    _Reading("chroma_stft_mean", "chroma", "", "1: all pitch classes sound alike", 3),
)
_MOST_TELLING = _TELLING[:4]  # what a line of a narrow terminal has room for


def show(content: RenderableType) -> None:
    """Print to standard output."""
    Console(highlight=False).print(content)


def genre_chart(recording: Recording, answer: GenreAnswer) -> RenderableType:
    """Every genre of one recording as a bar, likeliest first."""
    chart = Table.grid(padding=(0, 1))
    chart.add_column(justify="right")
    chart.add_column(width=_BAR_CELLS)
    chart.add_column(justify="right")
    ranked = sorted(answer.all_scores.items(), key=lambda entry: -entry[1])
    for genre, score in ranked:
        first = genre == answer.primary_genre
        chart.add_row(
            Text(genre, style="bold" if first else ""),
            Bar(1.0, 0.0, score, width=_BAR_CELLS, color="green" if first else "cyan"),
            f"{100 * score:.1f} %",
        )
    return Group(_title(recording, answer.audio), chart, _footer(answer.method, answer.timings_ms))


def genre_table(rows: Sequence[tuple[Recording, GenreAnswer]]) -> RenderableType:
    """A line a recording: genre, confidence, runner-up."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    table.add_column("genre", no_wrap=True)
    table.add_column("confidence", justify="right", no_wrap=True)
    table.add_column("", width=_BAR_CELLS // 2)
    table.add_column("runner-up", no_wrap=True)
    for recording, answer in rows:
        others = sorted(answer.all_scores.items(), key=lambda entry: -entry[1])[1:2]
        table.add_row(
            Text(recording.name),
            Text(answer.primary_genre, style="bold"),
            f"{answer.confidence:.1f} %",
            Bar(100.0, 0.0, answer.confidence, width=_BAR_CELLS // 2, color="green"),
            Text(", ".join(f"{genre} {100 * score:.1f} %" for genre, score in others)),
        )
    return table


def instruments_chart(recording: Recording, answer: InstrumentsAnswer) -> RenderableType:
    """The instruments of one recording as bars, most certain first, and what makes their sound."""
    chart = Table.grid(padding=(0, 1))
    chart.add_column(justify="right")
    chart.add_column(width=_BAR_CELLS)
    chart.add_column(justify="right")
    chart.add_column(style="dim")
    for score in answer.instruments:
        first = score.instrument == answer.primary
        chart.add_row(
            Text(score.instrument, style="bold" if first else ""),
            Bar(100.0, 0.0, score.confidence, width=_BAR_CELLS, color="green" if first else "cyan"),
            f"{score.confidence:.1f} %",
            "" if score.sound == "either" else score.sound,
        )
    count = f"{len(answer.instruments)} of {len(answer.all_scores)} instruments"
    said = f"{answer.method}, {count} from {100 * answer.threshold:g} %"
    return Group(_title(recording, answer.audio), chart, _footer(said, answer.timings_ms))


def instruments_table(rows: Sequence[tuple[Recording, InstrumentsAnswer]]) -> RenderableType:
    """A line a recording: its instruments, most certain first, and what makes their sound."""
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
            Text(", ".join(sound for sound, heard in sounds.items() if heard)),
        )
    return table


def features_chart(recording: Recording, answer: FeaturesAnswer) -> RenderableType:
    """The most telling features of one recording, with what they mean."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    for reading in _TELLING:
        if reading.feature in answer.features:
            value = f"{answer.features[reading.feature]:.{reading.digits}f}"
            title = Text(reading.title, style="bold")
            table.add_row(title, value, reading.unit, reading.meaning)
    count = f"{len(answer.features)} features in all: --json or --csv"
    return Group(_title(recording, answer.audio), table, _footer(count, answer.timings_ms))


def features_table(rows: Sequence[tuple[Recording, FeaturesAnswer]]) -> RenderableType:
    """A line a recording with its most telling features."""
    table = Table(box=None, pad_edge=False)
    table.add_column("recording", overflow="fold")
    for reading in _MOST_TELLING:
        unit = f" {reading.unit}" if reading.unit else ""
        table.add_column(reading.title + unit, justify="right", no_wrap=True)
    for recording, answer in rows:
        values = (
            f"{answer.features[reading.feature]:.{reading.digits}f}"
            if reading.feature in answer.features
            else "-"
            for reading in _MOST_TELLING
        )
        table.add_row(Text(recording.name), *values)
    return table


def _title(recording: Recording, audio: AudioFacts) -> Text:
    title = Text(recording.label, style="bold")
    facts = f"  {audio.duration_seconds:.1f} s at {audio.sample_rate} Hz"
    title.append(facts, style="not bold dim")
    if audio.truncated:
        title.append("  (breaks off before its end)", style="not bold yellow")
    return title


def _footer(text: str, timings_ms: dict[str, float]) -> Text:
    total = timings_ms.get("total")
    return Text(text if total is None else f"{text}, {total:.0f} ms", style="dim")
