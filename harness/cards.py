"""Cards for tests and benchmarks: those of the package, and small ones."""

from __future__ import annotations

from functools import cache

from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.settings import Settings


@cache
def load_cards() -> dict[str, Card]:
    """Return the cards of the package, by name."""
    return dict(Catalogue.from_settings(Settings()).cards)


def get_card(name: str) -> Card:
    """Return one of them."""
    return load_cards()[name]


def tiny_card(name: str = "tiny") -> Card:
    """Return a minimal card with labels: one sample as input, two labels."""
    return Card.model_validate(
        {
            "name": name,
            "task": "genre",
            "architecture": "tiny",
            "description": "A minimal card.",
            "source": {"uri": "file:/none", "licence": "none", "trained_on": "nothing"},
            "window": {"sample_rate": 8000, "seconds": 1.0, "hop_seconds": 1.0},
            "front_end": {"kind": "none"},
            "inputs": [{"name": "samples", "shape": [8000]}],
            "outputs": [{"name": "logits", "shape": [2]}],
            "labels": ["loud", "quiet"],
            "activation": "softmax",
        }
    )
