"""A diagnosis in words, and as plain values."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from bandstand.models.card import Card
from bandstand_diagnosis.report import Diagnosis, card_lines


def verdict_words(found: Diagnosis) -> str:
    """Say what was found in a sentence or two."""
    best = found.candidates[0]
    left = f"{best.fit.residual:.2g}"
    return {
        "card_explains": "The card's front end makes these features. Nothing to change.",
        "change_explains": "The card's front end makes other features; with the lines below it "
        f"makes these (relative residual {left}).",
        "close": "The card's front end makes other features. The lines below come close (relative "
        f"residual {left}) and do not make these exactly.",
        "unexplained": "The features seem to be of this recording, but nothing that was tried "
        f"makes them (best relative residual {left}): no lines to trust.",
        "unrelated": "These are no features of this recording, or not from its start: even the "
        f"best settings move with it by a correlation of {best.frame_correlation:.2f} only. "
        "Nothing can be said about the card.",
    }[found.verdict]


def plain_values(found: Diagnosis, card: Card) -> dict[str, Any]:
    """Return a diagnosis as plain values; spectrograms are left out."""
    others = {"spectrograms", "candidates"}
    content = {
        each.name: getattr(found, each.name) for each in fields(found) if each.name not in others
    }
    for name in ("training", "serving", "likeness"):
        content[name] = asdict(content[name])
    content["changes"] = [asdict(change) for change in found.changes]
    content["card_lines"] = card_lines(found.changes, card.front_end.kind)
    content["candidates"] = [
        asdict(each.setting.parameters)
        | {
            "window_length": each.setting.window_length,
            "floor_is_added": each.setting.added,
            "residual": each.fit.residual,
            "frame_correlation": each.frame_correlation,
            "indistinguishable": each.indistinguishable,
        }
        for each in found.candidates
    ]
    return content
