"""The command that serves: `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bandstand.places import SAMPLES
from bandstand.settings import Settings

_SAMPLE = SAMPLES / "band_groove.ogg"


def run_server(given: dict[str, Any], sample: Path | None) -> None:
    """Serve with the settings of the environment, those `given` taking precedence.

    Where people read the log, the server shows its answer to one recording once it is ready.
    """
    from bandstand_bentos.launch import serve

    settings = Settings(**given)
    if sample is None and settings.log_format == "text":
        sample = _SAMPLE
    serve(settings, sample)
