"""The commands that change what a running server serves: `models load | unload | rollback`."""

from __future__ import annotations

import typer

from bandstand.cli.keys import api_key
from bandstand.errors import ModelNotInstalledError
from clients.http import Bandstand
from clients.results import ModelSummary


def load(server: str, name: str, version: int | None) -> None:
    """Have a version served; None: the newest."""
    with _client(server) as client:
        _tell(client.load_model(name, version))


def unload(server: str, name: str) -> None:
    """Have a model served no more."""
    with _client(server) as client:
        _tell(client.unload_model(name))


def roll_back(server: str, name: str) -> None:
    """Have the version before the one that is served, served again.

    Raises:
        ModelNotInstalledError: there is none before it.
    """
    with _client(server) as client:
        listed = {model.name: model for model in client.models().models}
        model = listed.get(name)
        served = None if model is None else model.version
        older = [v for v in model.versions if served and v < served] if model else []
        if not older:
            raise ModelNotInstalledError(f"{name} has no version before {served or 'any'}")
        _tell(client.load_model(name, max(older)))


def _client(server: str) -> Bandstand:
    return Bandstand(server, api_key=api_key())


def _tell(model: ModelSummary) -> None:
    state = f"serves version {model.version}" if model.status == "ready" else "is not served"
    typer.echo(f"{model.name} {state}; installed: {', '.join(map(str, model.versions)) or 'none'}")
