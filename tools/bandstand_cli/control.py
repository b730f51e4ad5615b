"""The commands that change a running server's models: `models load | unload | rollback`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

import typer

from bandstand.errors import ModelNotFoundError, ModelNotInstalledError, UnusableRequestError
from bandstand.models.catalogue import Catalogue
from bandstand.settings import get_settings
from bandstand_cli.keys import api_key
from bandstand_client.errors import BandstandClientError
from bandstand_client.grpc import BandstandGrpc
from bandstand_client.grpc_transport import Tls
from bandstand_client.http import Bandstand


def load(server: str, name: str, version: int | None) -> None:
    """Load a version; None: the newest."""
    with _control(server) as control:
        control.load(name, version)
        _show_versions(name, control)


def unload(server: str, name: str) -> None:
    """Unload a model."""
    with _control(server) as control:
        control.unload(name)
        _show_versions(name, control)


def roll_back(server: str, name: str) -> None:
    """Load the version before the served one.

    Raises:
        ModelNotInstalledError: there is none before it.
    """
    with _control(server) as control:
        served, installed = control.versions(name)
        older = [version for version in installed if served and version < served]
        if not older:
            raise ModelNotInstalledError(f"{name} has no version before {served or 'any'}")
        control.load(name, max(older))
        _show_versions(name, control)


class _Control(Protocol):
    """A running server whose models can be changed."""

    def load(self, name: str, version: int | None) -> None: ...

    def unload(self, name: str) -> None: ...

    def versions(self, name: str) -> tuple[int | None, tuple[int, ...]]:
        """Return the served version, and the installed ones."""
        ...


class _Gateway:
    """Bandstand's own server; it knows its repository."""

    def __init__(self, client: Bandstand) -> None:
        self._client = client

    def load(self, name: str, version: int | None) -> None:
        self._client.load_model(name, version)

    def unload(self, name: str) -> None:
        self._client.unload_model(name)

    def versions(self, name: str) -> tuple[int | None, tuple[int, ...]]:
        models = {model.name: model for model in self._client.models().models}
        if name not in models:
            raise ModelNotFoundError(f"no model is called {name!r}; there are: {', '.join(models)}")
        model = models[name]
        return model.version if model.status == "ready" else None, model.versions


class _Triton:
    """A Triton server of this machine's repository; its configs select the version."""

    def __init__(self, client: BandstandGrpc) -> None:
        self._client = client
        self._catalogue = Catalogue.from_settings(get_settings())

    def load(self, name: str, version: int | None) -> None:
        from bandstand.triton.config import choose_version  # the Triton client is an extra

        self._catalogue.check(name)
        repository = self._catalogue.repository
        before = repository.pinned(name)
        choose_version(repository, name, version)
        try:
            self._client.load_model(name)
        except BandstandClientError:
            choose_version(repository, name, before)
            raise

    def unload(self, name: str) -> None:
        self._catalogue.check(name)
        self._client.unload_model(name)

    def versions(self, name: str) -> tuple[int | None, tuple[int, ...]]:
        ready = [
            m.version for m in self._client.models().models if m.name == name and m.state == "READY"
        ]
        served = max((v for v in ready if v), default=None)
        return served, self._catalogue.repository.versions(name)


@contextmanager
def _control(server: str) -> Iterator[_Control]:
    parts = urlsplit(server)
    if parts.scheme in ("http", "https"):
        with Bandstand(server, api_key=api_key()) as client:
            yield _Gateway(client)
        return
    tls = Tls() if parts.scheme == "grpcs" else None
    try:
        opened = BandstandGrpc(parts.netloc, api_key=api_key(), tls=tls)
    except ImportError as error:
        raise UnusableRequestError(str(error)) from error
    with opened as triton:
        yield _Triton(triton)


def _show_versions(name: str, control: _Control) -> None:
    served, installed = control.versions(name)
    state = "is not served" if served is None else f"serves version {served}"
    typer.echo(f"{name} {state}; installed: {', '.join(map(str, installed)) or 'none'}")
