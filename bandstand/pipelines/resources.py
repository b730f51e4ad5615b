"""What the pipelines work with, wherever its parts run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.pool import Model


@dataclass(frozen=True, slots=True)
class Resources:
    """What every operation is run with.

    Attributes:
        preparation: decodes recordings and cuts them for models.
        models: the models that may be asked, by name: a `ModelPool`, but inside Triton.
        catalogue: every model, to find one, and to say why one cannot answer.
    """

    preparation: Preparation
    models: Mapping[str, Model]
    catalogue: Catalogue

    def card(self, name: str) -> Card:
        """Return the card of a model, whether it is among those that can answer or not.

        Raises:
            BandstandError: as `Catalogue.card`.
        """
        # A model that answers knows its card; the catalogue would read it from the disk.
        return self.models[name].card if name in self.models else self.catalogue.card(name)
