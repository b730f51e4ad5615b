"""A Keras network in a separate process, so that TensorFlow's threads do not affect the others.

A line on its standard input starts a turn; it prints a line of JSON with the result.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import Card
from bandstand.runners.base import FloatArray
from benchmarks.exporting import real_weights
from harness import PROJECT_ROOT
from harness.cards import get_card

MODULE = "benchmarks.keras_process"
Ask = Literal["librosa and call", "call", "predict"]
"""`call` is `network(pictures, training=False)`, `predict` is `network.predict(pictures)`; both get
ready pictures, unless librosa makes them in the turn."""


class KerasProcess:
    """The network of a card on some windows; a context manager."""

    def __init__(self, card: Card, windows: FloatArray, path: Path) -> None:
        """Start it and wait until it is ready.

        Args:
            card: a `keras_cnn` behind log-mel whose weights are in the data folder.
            windows: `(n, samples)`.
            path: where to write them for the process.
        """
        np.save(path, windows)
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, card.name, str(path)],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> KerasProcess:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self._process.communicate()  # closes its input, which ends it

    def turn(self, ask: Ask) -> tuple[float, float]:
        """Return CPU and wall seconds of what is asked for.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{ask}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the Keras process has ended; what it said is above")
        cpu, wall = json.loads(line)
        return cpu, wall


def main() -> None:
    """Take a turn at every line, until there are no more."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("name", help="the card")
    parser.add_argument("windows", type=Path, help="a .npy file")
    options = parser.parse_args()
    from bandstand_exporters.keras_checkpoint import load_sequential

    card = get_card(options.name)
    network = load_sequential(real_weights(card))
    see = pictures_of(card, np.load(options.windows))
    ready = see()
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        if line.strip() == "predict":
            network.predict(ready, batch_size=len(ready), verbose=0)
        else:
            np.asarray(network(ready if line.strip() == "call" else see(), training=False))
        spent = (time.process_time() - cpu, time.perf_counter() - wall)
        print(json.dumps(spent), flush=True)


def pictures_of(card: Card, windows: FloatArray) -> Callable[[], FloatArray]:
    """Return the call that makes the network's pictures of windows, `(n, bands, frames, 1)`."""
    import librosa

    parameters = LogMelParameters.from_card(card)
    settings: dict[str, Any] = {
        "sr": parameters.sample_rate,
        "n_fft": parameters.n_fft,
        "hop_length": parameters.hop,
        "n_mels": parameters.n_mels,
        "fmax": parameters.high_hz,
    }
    return lambda: np.stack(
        [
            librosa.feature.melspectrogram(y=samples, **settings)[..., np.newaxis]
            for samples in windows
        ]
    )


if __name__ == "__main__":
    main()
