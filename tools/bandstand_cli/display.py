"""Common parts of charts and tables in a terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.text import Text

from bandstand_cli.inputs import Recording
from bandstand_client.contract.shared import AudioMetadata

BAR_CELLS = 24


def show(content: RenderableType) -> None:
    """Print to standard output."""
    Console(highlight=False).print(content)


def title(recording: Recording, audio: AudioMetadata) -> Text:
    """Return the first line: the recording."""
    line = Text(recording.label, style="bold")
    metadata = f"  {audio.duration_seconds:.1f} s at {audio.sample_rate} Hz"
    line.append(metadata, style="not bold dim")
    if audio.truncated:
        line.append("  (truncated: shorter than its header says)", style="not bold yellow")
    return line


def footer(text: str, timings_ms: dict[str, float]) -> Text:
    """Return the last line: `text` and the time."""
    total = timings_ms.get("total")
    return Text(text if total is None else f"{text}, {total:.0f} ms", style="dim")
