"""Starts the service in this process: BentoML's supervisor, with more frequent checks."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from pathlib import Path

from rich.console import Console

from bandstand.settings import Settings
from bandstand.telemetry import configure_logs
from bandstand_bentos.server_folder import ServerFolder
from bandstand_client.errors import BandstandClientError
from bandstand_client.http import Bandstand

_CHECK_SECONDS = 0.5
_READY_SECONDS = 120.0


def _try_sample(address: str, sample: Path) -> None:
    """Wait until the server is ready, classify one recording, and print the answer."""
    console = Console()
    try:
        with Bandstand(address) as client:
            client.wait_ready(_READY_SECONDS)
            result = client.classify(sample)
    except BandstandClientError as error:
        console.print(f"[red]the first request failed:[/red] {error}")
        return
    console.print(f"\n[bold]{sample.name}[/bold] ({result.audio.duration_seconds:.1f} s)")
    for score in result.predictions:
        bar = "█" * round(score.confidence / 4)
        console.print(f"  {score.genre:<12}{score.confidence:5.1f} %  [cyan]{bar}[/cyan]")
    console.print(
        f"\nServing at {address}, documented at [link={address}/docs]{address}/docs[/link]\n"
        f"Try:  curl --data-binary @{sample} {address}/predict\n"
        "Stop with Ctrl-C."
    )


def serve(settings: Settings, sample: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return.

    The supervisor looks for dead workers every half second, not every ten, and always replaces
    them. In containers BentoML leaves that to the orchestrator, which sees only the whole pod and
    would let it run without the worker.

    Args:
        settings: address, limits, log format.
        sample: a recording to classify, with a printed answer, when the server is ready.
    """
    # Sends no usage reports; BentoML reads this when it is imported.
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from bandstand_bentos.supervisor_seam import Supervision, supervise

    os.environ.update(settings.as_environment())  # the workers read their settings from it
    if sample is not None:
        address = f"http://{settings.host}:{settings.port}"
        threading.Thread(target=_try_sample, args=(address, sample), daemon=True).start()
    configure_logs(settings)
    with (
        tempfile.TemporaryDirectory(prefix="bandstand-") as path,
        ServerFolder.supervised(Path(path)) as folder,
    ):
        how = Supervision(
            drain_seconds=max(1, math.ceil(settings.drain_seconds)),
            check_seconds=_CHECK_SECONDS,
            folder=folder,
        )
        supervise(
            "bandstand_bentos.process:Bandstand",
            Path(__file__).resolve().parents[1],
            host=settings.host,
            port=settings.port,
            how=how,
        )
