"""A model for every card, in one repository, and what its source framework says of real windows.

Some checkpoints lie in the data folder. The others are drawn from a seed: small ones of the card's
own architecture and window. TensorFlow stays in a process of its own, which
`python -m tests.installed_cards ROOT` is. Each is made once in a run, by the worker that needs it
first (the fixture `cards_root` is the folder).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

import numpy as np
from filelock import FileLock

from bandstand.audio.decode import DecodeLimits
from bandstand.errors import NoOnsetError
from bandstand.models.card import Card, Source
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand.pipelines.prepare import prepare
from bandstand.runners.base import Array
from bandstand.settings import get_settings
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.export import export
from bandstand_exporters.proof import Difference, Proof
from harness.cards import get_card
from harness.recordings import wav

WINDOWS_PER_RECORDING = 3
RECORDINGS = ("audio/cc_sorohanro_solo_trumpet_06.ogg", "audio/pd_Hungarian_Dance_5_strings.ogg")
DRUM_RECORDINGS = ("drums/MusicDelta_Rock_Drum.flac", "drums/MusicDelta_Reggae_Drum.flac")
KERAS = {
    "annoteator_drum_cnn": "annoteator_complete_network.h5",
    "genre_mfcc_cnn": "gtzan_mfcc_cnn.keras",
}
WEIGHTS = {**KERAS, "tags_jamendo": "jamendo_fcn.pth", "tags_msd": "msd_fcn.pth"}


def _wav2vec2(folder: Path) -> Path:
    from harness.transformers_checkpoints import SMALL_WAVES, write_wav2vec2

    return write_wav2vec2(folder, **SMALL_WAVES)


def _hubert(folder: Path) -> Path:
    from harness.transformers_checkpoints import SMALL_WAVES, write_hubert

    return write_hubert(folder, **SMALL_WAVES)


def _ast(folder: Path) -> Path:
    from harness.transformers_checkpoints import SMALL_AST, write_ast

    return write_ast(folder, **SMALL_AST)


def _mel_cnn(folder: Path) -> Path:
    from harness.cnn_checkpoints import layers_of, mel_cnn, write_description, write_mel_cnn

    write_mel_cnn(folder, mel_cnn((8, 12)))
    return write_description(folder, layers=layers_of(2))


def _ccmusic(folder: Path) -> Path:
    from harness.cnn_checkpoints import vgg19, write_image_network

    folder.mkdir(parents=True)
    return write_image_network(folder / "save.pt", vgg19(width=1 / 16))


DRAWN: dict[str, Callable[[Path], Path]] = {
    "genre_wav2vec2": _wav2vec2,
    "genre_hubert": _hubert,
    "instruments_ast": _ast,
    "genre_cnn": _mel_cnn,
    "genre_ccmusic": _ccmusic,
}
SHIPPED = {"genre_features"}
INSTALLABLE = SHIPPED | WEIGHTS.keys() | DRAWN.keys()


def install(root: Path, names: Iterable[str]) -> None:
    """Export models into `root/models`; write `root/<name>.npz`: windows, their outputs."""
    for name in names:
        with FileLock(root / f"{name}.lock"):
            if not (root / f"{name}.npz").exists():
                _install(root, name)


def _install(root: Path, name: str) -> None:
    card, checkpoint = get_card(name), _checkpoint(name, root / "checkpoints")
    cache = SourceCache(root / "cache")
    export(card, ModelRepository(root / "models"), cache, checkpoint=checkpoint)
    opened = import_module(f"bandstand_exporters.{card.architecture}").open_source
    source = opened(card, cache.resolve(checkpoint))
    windows = real_windows(card)
    half = root / f"half-{name}.npz"
    np.savez(half, windows=windows, **source.run({card.inputs[0].name: windows}))
    half.rename(root / f"{name}.npz")


def copied(root: Path, names: Iterable[str], to: Path) -> None:
    """Copy models that are installed into another repository."""
    for name in names:
        shutil.copytree(root / "models" / name, to / name)


def install_keras(root: Path) -> None:
    """Install the Keras models, and write `root/<name>.npy`: what `by_keras` says."""
    with FileLock(root / "keras.lock"):
        if not all((root / f"{name}.npy").exists() for name in KERAS):
            command = [sys.executable, "-m", "tests.installed_cards", str(root)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            assert run.returncode == 0, run.stderr[-4000:]


def answered(root: Path, name: str) -> tuple[Array, dict[str, Array]]:
    """Return the windows `(n, *input shape)`, and each output by the source framework."""
    with np.load(root / f"{name}.npz") as arrays:
        outputs = {key: arrays[key] for key in arrays.files}
    return outputs.pop("windows"), outputs


def recordings(card: Card) -> list[Path]:
    """Return two real recordings of what the card hears."""
    names = DRUM_RECORDINGS if card.task == "drum_hits" else RECORDINGS
    return [get_settings().data_dir / name for name in names]


def proof_of(root: Path, name: str) -> Proof:
    """Return what the report of an installed model says of its proof."""
    proof = ModelRepository(root / "models").report(name, 1)["proof"]
    source, batch = (
        {output: Difference(**difference) for output, difference in proof[kind].items()}
        for kind in ("source_difference", "batch_difference")
    )
    return Proof(proof["examples"], tuple(proof["batch_sizes"]), source, batch)


def real_windows(card: Card) -> Array:
    """Return some windows of two recordings, and silence, as the model takes them."""
    limits = DecodeLimits.from_settings(get_settings())
    rows = []
    for audio in (*(path.read_bytes() for path in recordings(card)), _silence(card)):
        try:
            (windows,) = prepare(audio, (card,), limits).of(card).inputs.values()
        except NoOnsetError:
            windows = np.zeros((1, *card.inputs[0].shape), np.float32)
        count = min(WINDOWS_PER_RECORDING, len(windows))
        rows.append(windows[np.linspace(0, len(windows) - 1, count).astype(int)])
    return np.concatenate(rows)


def _silence(card: Card) -> bytes:
    return wav(np.zeros((card.window.samples, 1)), card.window.sample_rate)


def _checkpoint(name: str, folder: Path) -> Source:
    """Return where the checkpoint of a card is here."""
    card = get_card(name)
    if name in WEIGHTS:
        uri = f"file:{get_settings().data_dir / 'weights' / WEIGHTS[name]}"
        return card.source.model_copy(update={"uri": uri})
    if name in DRAWN:
        from harness.transformers_checkpoints import local

        return local(card, DRAWN[name](folder / name)).source
    return card.source


def by_keras(name: str) -> Array:
    """Return what Keras says of librosa's frames of the example windows; takes TensorFlow."""
    import keras
    import librosa

    (samples,) = example_windows(get_card(name)).inputs.values()
    if name == "annoteator_drum_cnn":
        settings = {"sr": 44_100, "n_fft": 2048, "hop_length": 512, "n_mels": 128, "fmax": 8000}
        frames = [librosa.feature.melspectrogram(y=y, **settings) for y in samples]
    else:
        settings = {"sr": 22_050, "n_mfcc": 13, "n_fft": 2048, "hop_length": 512}
        frames = [librosa.feature.mfcc(y=y, **settings).T[:126] for y in samples]
    path = get_settings().data_dir / "weights" / KERAS[name]
    network = keras.saving.load_model(path, compile=False)
    return np.asarray(network(np.stack(frames)[..., None], training=False))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    install(folder, KERAS)
    for network in KERAS:
        np.save(folder / f"{network}.npy", by_keras(network))
