"""The model list of `GET /models` and `bandstand models list`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from bandstand.errors import BandstandError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import install_command
from bandstand.runners.pool import ModelPool
from bandstand_client.contract.models import ModelList, ModelSummary

Status = Literal["ready", "installed", "not_installed", "broken"]

_UNKNOWN = "unknown"


def list_models(catalogue: Catalogue, pool: ModelPool | None = None) -> ModelList:
    """List every model, with its status: ready, installed, not installed or broken.

    Args:
        catalogue: the cards and the repository.
        pool: the pool that serves the models; None: no model is served.

    Raises:
        RepositoryError: the repository itself cannot be read.
    """
    return ModelList(models=tuple(summary(catalogue, name, pool) for name in catalogue))


def summary(catalogue: Catalogue, name: str, pool: ModelPool | None = None) -> ModelSummary:
    """Describe one model; the error of a broken model is its `reason` and is not raised.

    Raises:
        ModelNotFoundError: no model has that name.
    """
    catalogue.check(name)
    served = None if pool is None else pool.served.get(name)
    if served is not None:
        versions = catalogue.repository.versions(name)
        version = served.version
        return _describe(name, served.card, "ready", version, versions, runtime=served.runtime)
    found = _from_repository(catalogue, name)
    if pool is None or name not in pool.failures or found.status != "installed":
        return found
    return replace(found, status="broken", reason=pool.failures[name].message)


def _from_repository(catalogue: Catalogue, name: str) -> ModelSummary:
    """Describe a model that is not served."""
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
    """Return the summary of a model; a broken model may have no readable card."""
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
