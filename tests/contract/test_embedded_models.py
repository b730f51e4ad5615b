"""The models that come with Bandstand: their cards, and the lists that name them."""

from __future__ import annotations

import ast

import pytest

from bandstand.models.installed import CARD_FILE, card_file
from bandstand.models.repository import ModelRepository
from bandstand.places import EMBEDDED_MODELS, EMBEDDED_REPOSITORY
from harness import PROJECT_ROOT
from harness.cards import load_cards

CARDS = load_cards()


def names_in_the_wheel() -> set[str]:
    """What the build's step packs; it runs where Bandstand is not installed, so it has a list."""
    tree = ast.parse((PROJECT_ROOT / "embedded_files.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODELS"
    )
    return set(names)


def test_cards_places_and_the_wheel_name_the_same_models() -> None:
    assert {name for name, card in CARDS.items() if card.embedded} == EMBEDDED_MODELS
    assert names_in_the_wheel() == EMBEDDED_MODELS


@pytest.mark.parametrize("name", sorted(EMBEDDED_MODELS))
def test_the_committed_version_says_what_the_card_says(name: str) -> None:
    newest = ModelRepository(EMBEDDED_REPOSITORY).latest(name)
    assert newest.card() == CARDS[name]
    assert (newest.folder / CARD_FILE).read_bytes() == card_file(CARDS[name])
