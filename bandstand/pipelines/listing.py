"""What `GET /models` and `bandstand models list` say of every card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bandstand.models.card import Card, load_cards
from bandstand.models.repository import ModelRepository, install_command
from bandstand_client.contract.models import ModelList, ModelSummary


class Served(Protocol):
    """A model that answers right now."""

    @property
    def version(self) -> int:
        """The version that answers."""
        ...

    @property
    def runtime(self) -> str | None:
        """What runs it; None until it has answered once."""
        ...


def list_models(repository: ModelRepository, served: Mapping[str, Served]) -> ModelList:
    """List every card: whether it is installed, and whether `served` answers with it."""
    return ModelList(
        models=tuple(
            summary(repository, card, served.get(card.name)) for card in load_cards().values()
        )
    )


def summary(repository: ModelRepository, card: Card, served: Served | None) -> ModelSummary:
    """Describe one card: whether it is installed, and whether `served` answers with it."""
    versions = repository.versions(card.name)
    chosen = repository.serving(card.name).version if versions else None
    if chosen is not None:
        card = repository.card(repository.installed(card.name, chosen))
    return ModelSummary(
        name=card.name,
        task=card.task,
        architecture=card.architecture,
        description=card.description,
        status="ready" if served else "installed" if versions else "not_installed",
        version=served.version if served else chosen,
        versions=versions,
        runtime=served.runtime if served else None,
        labels=card.labels,
        licence=card.source.licence,
        trained_on=card.source.trained_on,
        quality=card.quality,
        install=None if versions else install_command(card.name),
    )
