"""The architecture of every card has an exporter and a parity test."""

from __future__ import annotations

import ast
import json
from importlib import import_module

import pytest

from bandstand.models.card import Card
from bandstand.models.installed import card_file
from harness import PROJECT_ROOT
from harness.cards import load_cards

CARDS = load_cards()


def words_of_parity_tests() -> set[str]:
    """Every string that stands in the code of a parity test."""
    words = set()
    for path in (PROJECT_ROOT / "tests" / "parity").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return words


WORDS = words_of_parity_tests()


@pytest.mark.parametrize("name", CARDS)
def test_a_parity_test_names_the_card(name: str) -> None:
    assert name in WORDS, f"no test in tests/parity proves {name}"


@pytest.mark.parametrize("architecture", sorted({card.architecture for card in CARDS.values()}))
def test_the_architecture_has_an_exporter(architecture: str) -> None:
    assert callable(import_module(f"bandstand_exporters.{architecture}").open_source)


def test_there_are_cards() -> None:
    assert CARDS


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_read_as_it_was_stored_with_a_version(name: str) -> None:
    stored = json.loads(card_file(CARDS[name]))
    assert Card.model_validate(stored) == CARDS[name]
