"""Starts the service in this process: BentoML's own supervisor, told to look more often."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from rich.console import Console

from bandstand.settings import Settings
from bandstand_client.errors import BandstandClientError
from bandstand_client.http import Bandstand

_CHECK_SECONDS = 0.5
_READY_SECONDS = 120.0


def _try_sample(address: str, sample: Path) -> None:
    """Once the server is ready, ask it about one recording and show what it says."""
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

    A dead worker is noticed every half second instead of every ten, and is always replaced: in
    containers too, where BentoML leaves that to the orchestrator and the pod with a hole in it
    would stay.

    Args:
        settings: address, limits, log format.
        sample: a recording to answer, and show the answer of, once the server is ready.
    """
    # Nobody asked for usage reports to be sent; before BentoML is imported.
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.utils import circus
    from bentoml_cli.cli import cli

    class PromptArbiter(circus.Arbiter):
        def __init__(self, watchers: list[Any], **options: Any) -> None:
            for watcher in watchers:
                watcher.respawn = True
            super().__init__(watchers, **{**options, "check_delay": _CHECK_SECONDS})

    os.environ.update(settings.as_environment())  # the workers read theirs from there
    # The supervisor offers no setting for this.
    setattr(circus, "Arbiter", PromptArbiter)  # noqa: B010
    if sample is not None:
        address = f"http://{settings.host}:{settings.port}"
        threading.Thread(target=_try_sample, args=(address, sample), daemon=True).start()
    options = {
        "--working-dir": Path(__file__).resolve().parents[1],  # imports the service from here
        "--host": settings.host,
        "--port": settings.port,
        "--timeout-graceful-shutdown": max(1, round(settings.drain_seconds)),
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    # By default all servers of one user write their metrics to the same folder, and each empties it
    # when it starts.
    with tempfile.TemporaryDirectory(prefix="bandstand-metrics-") as metrics:
        BentoMLContainer.prometheus_multiproc_dir.set(metrics)
        cli.main(["serve", "bandstand_bentos.service:Bandstand", *arguments], standalone_mode=False)
