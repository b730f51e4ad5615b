"""The graphs of waveforms give the outputs of the Keras networks on librosa's frames.

TensorFlow is heavy and stays in a process of its own, `tests/installed_cards.py`, which exports
both cards and writes down what Keras itself answers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache, sha256_of
from bandstand.pipelines.model_output import activate
from bandstand.pipelines.prepare import prepare
from bandstand.runners.base import Array, Runner
from bandstand.runners.load import load_runner
from bandstand.settings import get_settings
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.weights import model_files
from harness.cards import get_card
from tests.installed_cards import install_keras

CARDS = {
    "annoteator_drum_cnn": "annoteator_complete_network.h5",
    "genre_mfcc_cnn": "gtzan_mfcc_cnn.keras",
}
PRE_ONSET_SECONDS = 0.02
"""AnNOTEator cuts from 20 ms before the onset."""
ANNOTATED = {"KD": "kick", "SD": "snare"}
LEVEL = 0.25
"""Without a logarithm the network hears levels, and soft drums best: see docs/models.md."""


@pytest.fixture(scope="module")
def exported(cards_root: Path) -> Path:
    """A repository with both models."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed: pip install 'bandstand[keras]'")
    install_keras(cards_root)
    return cards_root / "models"


@pytest.fixture(scope="module")
def by_keras(exported: Path) -> Callable[[str], Array]:
    """The probabilities by Keras of a card's example windows."""
    return lambda name: np.load(exported.parent / f"{name}.npy")


def runner_of(root: Path, card: Card, **options: Any) -> Runner:
    return load_runner(card, ModelRepository(root).latest(card.name).model_path, **options)


@pytest.mark.parametrize("name", CARDS)
def test_the_graph_says_what_keras_says(
    exported: Path, by_keras: Callable[[str], Array], name: str
) -> None:
    card = get_card(name)
    logits = runner_of(exported, card).run(example_windows(card).inputs)["logits"]
    probabilities = activate(card, logits)
    np.testing.assert_allclose(probabilities, by_keras(name), atol=2e-5)


@pytest.mark.parametrize("name", CARDS)
def test_both_runtimes_agree(exported: Path, name: str) -> None:
    card = get_card(name)
    inputs = example_windows(card).inputs
    answers = [
        runner_of(exported, card, runtime=runtime, precision="f32").run(inputs)["logits"]
        for runtime in ("onnxruntime", "openvino")
    ]
    tolerance = card.tolerance
    np.testing.assert_allclose(*answers, rtol=tolerance.relative, atol=tolerance.absolute)


@pytest.mark.parametrize("name", CARDS)
def test_the_report_is_of_the_files(exported: Path, name: str) -> None:
    card = get_card(name)
    repository = ModelRepository(exported)
    report = repository.report(name, 1)
    assert report["source_uri"] == card.source.uri  # where everyone finds it, not where it lay
    assert report["source_sha256"] == card.source.sha256
    files = model_files(repository.latest(name).model_path)
    assert len(files) == 2  # both have a network of its own, which shares the weights
    assert report["model_sha256"] == sha256_of(*files)
    assert report["proof"]["examples"] >= 9
    assert report["examples"].endswith("and silence")
    assert report["proof"]["source_difference"]["logits"]["tolerance_used"] < 0.5


@pytest.mark.parametrize(("name", "file"), CARDS.items())
def test_the_cards_sha256_is_the_checkpoints(data_dir: Path, name: str, file: str) -> None:
    source = get_card(name).source.model_copy(update={"uri": f"file:{data_dir / 'weights' / file}"})
    assert SourceCache(data_dir).resolve(source).name == file  # raises where they differ


def genres(exported: Path, recording: Path) -> dict[str, float]:
    """Genre probabilities of a recording, averaged over its windows."""
    card = get_card("genre_mfcc_cnn")
    limits = DecodeLimits.from_settings(get_settings())
    prepared = prepare(recording.read_bytes(), (card,), limits).of(card)
    probabilities = activate(card, runner_of(exported, card).run(prepared.inputs)["logits"])
    mean = np.average(probabilities, axis=0, weights=prepared.durations_seconds)
    return dict(zip(card.labels, mean.tolist(), strict=True))


def test_a_string_orchestra_is_no_rock_band(exported: Path, data_dir: Path) -> None:
    scores = genres(exported, data_dir / "audio" / "pd_Hungarian_Dance_5_strings.ogg")
    assert scores["classical"] > 3 * (scores["rock"] + scores["metal"])


def onsets(class_file: Path, instrument: str) -> list[float]:
    """Seconds of an instrument's annotated onsets."""
    rows = (line.split() for line in class_file.read_text().splitlines() if line.strip())
    return [float(time) for time, kind in rows if kind == instrument]


def heard(exported: Path, data_dir: Path, instrument: str) -> Array:
    """Probabilities of every drum at every annotated onset of one instrument, `(n, labels)`."""
    card = get_card("annoteator_drum_cnn")
    rate, length = card.window.sample_rate, card.window.samples
    cuts = []
    for flac in sorted((data_dir / "drums").glob("*_Drum.flac")):
        waveform = decode(flac.read_bytes(), DecodeLimits.from_settings(get_settings()))
        samples = LEVEL * np.pad(resample(waveform, rate).samples, (0, length))
        for onset in onsets(
            flac.with_name(flac.name.replace("_Drum.flac", "_class.txt")), instrument
        ):
            start = max(0, round((onset - PRE_ONSET_SECONDS) * rate))
            cuts.append(samples[start : start + length])
    return activate(card, runner_of(exported, card).run({"samples": np.stack(cuts)})["logits"])


@pytest.mark.parametrize("instrument", ANNOTATED)
def test_real_drums_are_heard_as_what_they_are(
    exported: Path, data_dir: Path, instrument: str
) -> None:
    labels = get_card("annoteator_drum_cnn").labels
    at_own = heard(exported, data_dir, instrument)
    column = labels.index(ANNOTATED[instrument])
    (other,) = set(ANNOTATED) - {instrument}
    at_other = heard(exported, data_dir, other)
    assert (at_own[:, column] > 0.5).mean() > 0.7
    assert (at_other[:, column] > 0.5).mean() < 0.3
