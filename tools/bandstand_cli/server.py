"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bandstand.places import SAMPLES
from bandstand.settings import Settings

_SAMPLE = SAMPLES / "band_groove.ogg"


def run_server(given: dict[str, Any], sample: Path | None) -> None:
    """Serve with the settings of the environment; those in `given` take precedence.

    With logs for people, the server prints its answer for one recording when it is ready.
    """
    from bandstand_bentos.launch import serve

    settings = Settings(**given)
    if sample is None and settings.log_format == "text":
        sample = _SAMPLE
    serve(settings, sample)
