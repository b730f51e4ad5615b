"""Real recordings cut to a model's windows, to prove exports with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import FloatArray, resample
from bandstand.audio.windows import cut_windows
from bandstand.errors import NoOnsetError, SourceError
from bandstand.models.card import Card
from bandstand.places import SAMPLES
from bandstand.settings import get_settings
from bandstand_exporters.source_model import Examples

SUFFIXES = {".flac", ".mp3", ".ogg", ".wav"}
FEWEST = 8
"""Smallest number of compared windows; the largest batch of the proof."""


def example_windows(card: Card, *, per_recording: int = 4) -> Examples:
    """Return windows of every recording of the data folder and of the samples, and silence.

    They are cut as when serving; recordings that cannot be cut for want of an onset are left out.

    Args:
        card: its only input takes waveforms, `(n, window.samples)` or `(n, 2, window.samples)`.
        per_recording: windows of each recording, evenly spaced; more if there are few recordings.

    Raises:
        SourceError: there is no recording, or none with an onset where the card asks for them.
    """
    paths = list(_recordings())
    if not paths:
        raise SourceError(
            f"no recordings to prove {card.name} with: put some into "
            f"{get_settings().data_dir / 'audio'} (BANDSTAND_DATA_DIR)"
        )
    per_recording = max(per_recording, -(-FEWEST // len(paths)))
    windows = {}
    for path in paths:
        with suppress(NoOnsetError):
            windows[path.name] = _some_windows(card, path, per_recording)
    if not windows:
        raise SourceError(f"no onset in any recording to prove {card.name} with")
    silence = np.zeros((1, *next(iter(windows.values())).shape[1:]), np.float32)
    batch = np.concatenate([*windows.values(), silence])
    while len(batch) < FEWEST:  # recordings shorter than a few windows
        batch = np.concatenate([batch, batch])
    description = f"{len(batch) - 1} windows of {', '.join(windows)}; and silence"
    return Examples({card.inputs[0].name: batch}, description)


def _recordings() -> Iterator[Path]:
    for directory in (get_settings().data_dir / "audio", SAMPLES):
        if directory.is_dir():
            yield from sorted(p for p in directory.iterdir() if p.suffix in SUFFIXES)


def _some_windows(card: Card, path: Path, count: int) -> FloatArray:
    limits = DecodeLimits.from_settings(get_settings())
    waveform = decode(path.read_bytes(), limits, channels=card.window.channels)
    windows = cut_windows(resample(waveform, card.window.sample_rate), card.window)
    full: FloatArray = windows.batch
    if len(full) > 1:
        full = full[windows.coverage == 1]
    chosen = np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int)
    some: FloatArray = full[chosen]
    return some
