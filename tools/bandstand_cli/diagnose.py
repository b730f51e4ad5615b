"""The command `diagnose`: compares training features with those of a card's front end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.frontends.parameters import MfccParameters
from bandstand.models.card import Card, load_card
from bandstand.models.catalogue import Catalogue
from bandstand.settings import get_settings
from bandstand_cli.display import show
from bandstand_cli.failures import EXIT_FAILED
from bandstand_diagnosis.features import load_features
from bandstand_diagnosis.picture import check_can_draw, draw
from bandstand_diagnosis.report import Diagnosis, Verdict, card_lines, diagnose, read_front_end
from bandstand_diagnosis.spectra import Setting
from bandstand_diagnosis.statement import plain_values, verdict_words
from bandstand_diagnosis.sweep import Candidate

_UNSAID = {"window": "window as long as n_fft", "floor": "no other floor"}
_EQUAL_ROWS, _OTHER_ROWS = 2, 4
_STYLES: dict[Verdict, str] = {
    "card_explains": "bold green",
    "change_explains": "bold yellow",
    "close": "bold yellow",
    "unexplained": "bold red",
    "unrelated": "bold red",
}


def run(card: str, features: Path, audio: Path, plot: Path | None, *, as_json: bool) -> None:
    """Diagnose, print, and end with exit code 1 if the card does not produce the features.

    Raises:
        BandstandError: the card, the features or the audio cannot be used.
        OSError: a file cannot be read or written.
    """
    if plot is not None:
        check_can_draw()
    if card.endswith((".yaml", ".yml")):
        model_card = load_card(Path(card))
    else:
        model_card = Catalogue.from_settings(get_settings()).card(card)
    read_front_end(model_card)  # raise before decoding if the card cannot be compared
    training = load_features(features)
    waveform = decode(audio.read_bytes(), DecodeLimits.from_settings(get_settings()))
    found = diagnose(training, waveform, model_card)
    if plot is not None:
        draw(found, plot)
    if as_json:
        sys.stdout.write(
            json.dumps(plain_values(found, model_card), indent=2, ensure_ascii=False) + "\n"
        )
    else:
        show(_page(found, model_card))
    if found.verdict != "card_explains":
        raise typer.Exit(EXIT_FAILED)


def _page(found: Diagnosis, card: Card) -> RenderableType:
    parts: list[RenderableType] = [_summary(found), _heading("Settings tried, best first")]
    parts.append(_candidates(found.candidates))
    parts.append(Padding(Text(verdict_words(found), style=_STYLES[found.verdict]), (1, 0, 0, 0)))
    lines = card_lines(found.changes, card.front_end.kind)
    if lines:
        parts += [_heading(f"Lines of the card {card.name} to change"), Text(lines)]
    if found.outside_the_card:
        parts.append(_heading("Settings that a card has no field for"))
        parts += [Text(f"- {words}") for words in found.outside_the_card]
    if found.undetermined:
        parts.append(_heading("Not told apart by this clip"))
        parts += [
            Text(f"- {name}: {', '.join(map(_short, values))}")
            for name, values in found.undetermined.items()
        ]
    if found.proof is not None:
        words = f"Computed again by the serving front end: residual {found.proof:.2g}"
        parts.append(Padding(Text(words, style="dim"), (1, 0, 0, 0)))
    return Group(*parts)


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def _summary(found: Diagnosis) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    sides = (found.training, found.serving)
    for title in ("training features", "the card's front end"):
        table.add_column(title, justify="right", no_wrap=True)
    order = "frames first" if found.frames_first else "bands first"
    table.add_row("stored", order, "frames first")
    table.add_row("frames x bands", *(f"{side.frames} x {side.bands}" for side in sides))
    table.add_row("range", *(f"{side.minimum:.4g} … {side.maximum:.4g}" for side in sides))
    table.add_row("mean", *(f"{side.mean:.4g}" for side in sides))
    table.add_row("spread (std)", *(f"{side.std:.4g}" for side in sides))
    alike = found.likeness
    table.add_row("band profiles", "", f"correlate {alike.profile_correlation:.3f}")
    table.add_row("frames", "", f"correlate {alike.frame_correlation:.3f}")
    residual = "shapes differ" if alike.residual is None else f"{alike.residual:.2g}"
    table.add_row("relative residual", "", residual)
    return table


def _candidates(candidates: tuple[Candidate, ...]) -> RenderableType:
    """The best setting in full, the differences of the others, and a mark for equal ones."""
    table = Table(box=None, pad_edge=False)
    for title in ("residual", "frames", ""):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("settings", overflow="fold")
    best = _described(candidates[0].setting)
    others = [each for each in candidates[1:] if not each.indistinguishable]
    equals = [each for each in candidates[1:] if each.indistinguishable]
    for each in [candidates[0], *equals[:_EQUAL_ROWS], *others[:_OTHER_ROWS]]:
        own = _described(each.setting)
        different = [text or _UNSAID[name] for name, text in own.items() if text != best[name]]
        first = each is candidates[0]
        table.add_row(
            f"{each.fit.residual:.1e}",
            f"{each.frame_correlation:.3f}",
            "=" if each.indistinguishable else "",
            ", ".join(filter(None, own.values())) if first else f"but {', '.join(different)}",
        )
    return Group(table, Text("=: equal to the best, within the precision of this clip", "dim"))


def _described(setting: Setting) -> dict[str, str]:
    p, window = setting.parameters, setting.window_length
    logarithm = f"log of values + {p.floor:g}" if setting.added else "log"
    described = {
        "rate": f"{p.sample_rate} Hz",
        "n_fft": f"n_fft {p.n_fft}",
        "window": "" if window == p.n_fft else f"window {window}",
        "hop": f"hop {p.hop}",
        "bands": f"{p.n_mels} bands",
        "edges": f"{p.low_hz:g}-{p.high_hz:g} Hz",
        "scale": p.mel_scale,
        "area": "area 1" if p.area_normalised else "peak 1",
        "spectrum": p.spectrum,
        "padding": f"padding {p.padding}",
        "level": "linear" if p.level == "linear" else logarithm,
    }
    if isinstance(p, MfccParameters):
        limit = "no range" if p.dynamic_range_db is None else f"range {p.dynamic_range_db:g} dB"
        described |= {"count": f"{p.n_mfcc} coefficients", "range": limit}
        described["floor"] = "" if setting.added else f"floor {p.floor:g}"
    return described


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
