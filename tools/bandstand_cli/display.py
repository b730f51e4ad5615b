"""What charts and tables in a terminal have in common."""

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
    """Return the first line: what was listened to."""
    line = Text(recording.label, style="bold")
    metadata = f"  {audio.duration_seconds:.1f} s at {audio.sample_rate} Hz"
    line.append(metadata, style="not bold dim")
    if audio.truncated:
        line.append("  (breaks off before its end)", style="not bold yellow")
    return line


def footer(text: str, timings_ms: dict[str, float]) -> Text:
    """Return the last line: `text`, and how long it took."""
    total = timings_ms.get("total")
    return Text(text if total is None else f"{text}, {total:.0f} ms", style="dim")
