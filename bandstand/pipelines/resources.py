"""The resources of the pipelines, in this process or in others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.pool import Model


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that every operation uses.

    Attributes:
        preparation: prepares recordings for models.
        models: the models by name; a `ModelPool`, except inside Triton.
        catalogue: the cards and the repository, with the errors of models that cannot be served.
    """

    preparation: Preparation
    models: Mapping[str, Model]
    catalogue: Catalogue

    def card(self, name: str) -> Card:
        """Return the card of a model, also of one that is not served.

        Raises:
            BandstandError: as `Catalogue.card`.
        """
        # A served model has its card in memory; the catalogue would read it from the disk.
        return self.models[name].card if name in self.models else self.catalogue.card(name)
