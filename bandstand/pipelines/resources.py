"""What the pipelines work with, wherever its parts run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bandstand.pipelines.model_output import Model
from bandstand.pipelines.prepare import Preparation


@dataclass(frozen=True, slots=True)
class Resources:
    """What every operation is run with.

    Attributes:
        preparation: decodes recordings and cuts them for models.
        models: the models that can answer, by name.
    """

    preparation: Preparation
    models: Mapping[str, Model]
