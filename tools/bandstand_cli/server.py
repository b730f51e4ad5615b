"""The command that serves: `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bandstand.settings import Settings


def run_server(given: dict[str, Any], sample: Path | None) -> None:
    """Serve with the settings of the environment, those `given` taking precedence."""
    from bandstand_bentos.launch import serve

    serve(Settings(**given), sample)
