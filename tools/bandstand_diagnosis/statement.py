"""A diagnosis in words, and as plain values."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from bandstand.models.card import Card
from bandstand_diagnosis.report import Diagnosis, card_lines


def verdict_words(found: Diagnosis) -> str:
    """Return the verdict in one or two sentences."""
    best = found.candidates[0]
    left = f"{best.fit.residual:.2g}"
    return {
        "card_explains": "The card's front end produces these features. Nothing to change.",
        "change_explains": "The card's front end produces other features; with the lines below it "
        f"produces these (relative residual {left}).",
        "close": "The card's front end produces other features. With the lines below they are "
        f"similar (relative residual {left}), but not equal.",
        "unexplained": "The features seem to be of this recording, but no settings that were tried "
        f"produce them (best relative residual {left}): there are no lines to change.",
        "unrelated": "These are not features of this recording, or not from its start: with the "
        f"best settings the correlation of frames is only {best.frame_correlation:.2f}. "
        "There is no result for the card.",
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
