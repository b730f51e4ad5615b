"""What `GET /models` and `bandstand models list` say of every model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import install_command
from bandstand_client.contract.models import ModelList, ModelSummary

Status = Literal["ready", "installed", "not_installed", "broken"]

_UNKNOWN = "unknown"


class Served(Protocol):
    """A model that answers right now."""

    @property
    def card(self) -> Card:
        """The card of the version that answers."""
        ...

    @property
    def version(self) -> int:
        """The version that answers."""
        ...

    @property
    def runtime(self) -> str | None:
        """What runs it; None until it has answered once."""
        ...


def list_models(catalogue: Catalogue, served: Mapping[str, Served]) -> ModelList:
    """List every model: whether it is installed, and whether `served` answers with it.

    Raises:
        RepositoryError: the repository itself cannot be read.
    """
    return ModelList(models=tuple(summary(catalogue, n, served.get(n)) for n in catalogue))


def summary(catalogue: Catalogue, name: str, served: Served | None) -> ModelSummary:
    """Describe one model; what is wrong with a broken one is its `reason`, and no error.

    Raises:
        ModelNotFoundError: no model has that name.
    """
    catalogue.check(name)
    if served is None:
        return _of_disk(catalogue, name)
    versions = catalogue.repository.versions(name)
    return _describe(name, served.card, "ready", served.version, versions, runtime=served.runtime)


def _of_disk(catalogue: Catalogue, name: str) -> ModelSummary:
    """Describe a model that nobody answers with."""
    card, version = catalogue.cards.get(name), None
    versions: tuple[int, ...] = ()
    try:
        versions = catalogue.repository.versions(name)
        if not versions:
            return _describe(name, card, "not_installed", install=install_command(name))
        installed = catalogue.serving(name)
        version = installed.version
        return _describe(name, installed.card(), "installed", version, versions)
    except BandstandError as error:
        return _describe(name, card, "broken", version, versions, reason=error.message)


def _describe(
    name: str,
    card: Card | None,
    status: Status,
    version: int | None = None,
    versions: tuple[int, ...] = (),
    *,
    runtime: str | None = None,
    install: str | None = None,
    reason: str | None = None,
) -> ModelSummary:
    """Return the answer's shape; a broken model may have no card that can be read."""
    return ModelSummary(
        name=name,
        task=card.task if card else _UNKNOWN,
        architecture=card.architecture if card else _UNKNOWN,
        description=card.description if card else "",
        status=status,
        version=version,
        versions=versions,
        runtime=runtime,
        labels=card.labels if card else (),
        licence=card.source.licence if card else _UNKNOWN,
        trained_on=card.source.trained_on if card else _UNKNOWN,
        quality=card.quality if card else (),
        install=install,
        reason=reason,
    )
