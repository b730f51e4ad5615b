"""The listed instruments, their kind of sound, and the choice of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from onnx import TensorProto, helper
from scipy.special import expit

from bandstand.errors import (
    CardError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelNotInstalledError,
    UnusableRequestError,
)
from bandstand.local import LocalBandstand
from bandstand.models.card import Card, load_card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.settings import Settings
from bandstand_client.contract.instruments import InstrumentsAnswer, InstrumentsOptions
from harness.cards import get_card
from harness.recordings import tone, wav
from harness.transformers_checkpoints import TAGS
from tests.triton_serving import embedded_repository, graph

RUNTIME: Final = "onnxruntime"
JAMENDO, AST = "tags_jamendo", "instruments_ast"
SILENT = -9.0  # a logit that no threshold lists
CERTAIN = 9.0

Logits = dict[str, float]


def said_always(card: Card, labels: tuple[str, ...], logits: Logits, slopes: Logits) -> bytes:
    """A graph that says these logits, plus a window's mean times its slope, and else nothing."""
    (samples,), (output,) = card.inputs, card.outputs
    nodes = [
        helper.make_node("ReduceMean", [samples.name, "one"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "slopes"], ["scaled"]),
        helper.make_node("Add", ["scaled", "always"], [output.name]),
    ]
    weights = {
        "one": np.array([1], np.int64),
        "slopes": np.array([[slopes.get(label, 0.0) for label in labels]], np.float32),
        "always": np.array([[logits.get(label, SILENT) for label in labels]], np.float32),
    }
    shapes = [["n", *samples.shape], ["n", *output.shape]]
    given, answered = zip(
        (samples.name, output.name), (TensorProto.FLOAT,) * 2, shapes, strict=True
    )
    return graph(nodes, weights, given, answered)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


@pytest.fixture
def says(repository: ModelRepository) -> Callable[..., None]:
    """Install a model that always says the same; `instrument---` is left out of Jamendo's."""

    def install(name: str, logits: Logits, slopes: Logits | None = None) -> None:
        card = get_card(name)
        prefix = "instrument---" if name == JAMENDO else ""
        named = [{f"{prefix}{k}": v for k, v in given.items()} for given in (logits, slopes or {})]
        labels = card.labels or TAGS
        files = {MODEL_FILE: said_always(card, labels, *named)}
        repository.install(card.with_labels(labels), files)

    return install


@pytest.fixture
def ask(repository: ModelRepository) -> Callable[..., Any]:
    settings = Settings(repository=repository.root, runtime=RUNTIME, threads_per_runner=1)

    async def detect(audio: bytes | None = None, **options: Any) -> InstrumentsAnswer:
        async with LocalBandstand(settings) as pipelines:
            return await pipelines.detect_instruments(audio or tone(2.0, 16_000), **options)

    return detect


def listed(answer: InstrumentsAnswer) -> list[str]:
    return [score.instrument for score in answer.instruments]


async def test_a_probability_at_the_threshold_is_listed_and_one_below_is_not(
    says: Callable[..., None], ask: Callable[..., Any]
) -> None:
    says(JAMENDO, {"violin": 0.0})
    at = await ask(threshold=0.5)
    assert (listed(at), at.primary, at.has_acoustic) == (["violin"], "violin", True)
    assert at.all_scores["violin"] == at.threshold == 0.5
    above = await ask(threshold=float(np.nextafter(0.5, 1)))
    assert (listed(above), above.primary, above.has_acoustic) == ([], None, False)


async def test_the_threshold_is_the_documented_one_unless_asked_for(
    says: Callable[..., None], ask: Callable[..., Any]
) -> None:
    says(JAMENDO, {"violin": -0.8, "piano": -0.9})  # 0.31, 0.29
    answer = await ask()
    assert (answer.threshold, listed(answer)) == (InstrumentsOptions().threshold, ["violin"])
    assert answer.threshold == 0.3
    everything = await ask(threshold=0.0)
    assert len(everything.instruments) == len(everything.all_scores) == 14


async def test_the_most_certain_comes_first_under_its_own_name(
    says: Callable[..., None], ask: Callable[..., Any]
) -> None:
    says(JAMENDO, {"piano": 1.0, "violin": 3.0, "drums": 2.0})
    answer = await ask()
    assert listed(answer) == ["violin", "drums", "piano"]
    first = answer.instruments[0]
    assert answer.primary == first.instrument
    assert (first.label, first.sound) == ("instrument---violin", "acoustic")
    assert first.confidence == pytest.approx(100 * expit(3.0), abs=1e-4)
    assert first.raw_score == pytest.approx(3.0)
    assert (answer.method, answer.members[0].model) == (JAMENDO, JAMENDO)
    assert answer.members[0].version == 1


async def test_genres_and_moods_are_no_instruments(
    repository: ModelRepository, ask: Callable[..., Any]
) -> None:
    card = get_card(JAMENDO)
    others = [label for label in card.labels if label not in card.instruments]
    logits = dict.fromkeys(others, CERTAIN)
    repository.install(card, {MODEL_FILE: said_always(card, card.labels, logits, {})})
    answer = await ask()
    assert (listed(answer), answer.primary) == ([], None)
    assert set(answer.all_scores) == {label.split("---")[1] for label in card.instruments}


@pytest.mark.parametrize(
    ("playing", "acoustic", "electronic"),
    [
        ((), False, False),
        (("drums", "bass", "guitar", "keyboard"), False, False),
        (("drums", "violin"), True, False),
        (("drums", "synthesizer"), False, True),
        (("voice", "drummachine"), True, True),
    ],
)
async def test_only_what_is_listed_says_how_the_sound_is_made(
    playing: tuple[str, ...],
    acoustic: bool,
    electronic: bool,
    says: Callable[..., None],
    ask: Callable[..., Any],
) -> None:
    says(JAMENDO, dict.fromkeys(playing, CERTAIN))
    answer = await ask()
    assert set(listed(answer)) == set(playing)
    assert (answer.has_acoustic, answer.has_electronic) == (acoustic, electronic)


async def test_a_window_counts_by_how_much_audio_is_in_it(
    says: Callable[..., None], ask: Callable[..., Any]
) -> None:
    says(JAMENDO, {"violin": 0.0}, slopes={"violin": 4.0})
    window, rest = 29.0, 2.9
    levels = np.repeat([0.5, -0.5], [round(s * 16_000) for s in (window, rest)])
    answer = await ask(wav(levels[:, None], 16_000, "FLOAT"), threshold=0.0)
    means = np.array([0.5, -0.5 * rest / window])  # the rest of the second window is padding
    expected = np.average(expit(4.0 * means), weights=[window, rest])
    assert answer.all_scores["violin"] == pytest.approx(expected, abs=1e-4)
    violin = next(score for score in answer.instruments if score.instrument == "violin")
    assert violin.raw_score == pytest.approx(np.average(4.0 * means, weights=[window, rest]), 1e-3)


async def test_the_one_that_tells_most_instruments_is_asked_first(
    says: Callable[..., None], ask: Callable[..., Any]
) -> None:
    says(JAMENDO, {"violin": CERTAIN})
    assert (await ask()).method == JAMENDO
    says(AST, {"Violin, fiddle": CERTAIN, "Sound 3": CERTAIN})
    answer = await ask()
    assert (answer.method, listed(answer)) == (AST, ["Violin, fiddle"])
    assert len(answer.all_scores) == len(get_card(AST).instruments)
    assert (await ask(model_name=JAMENDO)).method == JAMENDO


async def test_no_model_that_tells_instruments_is_said_with_the_command(
    repository: ModelRepository, ask: Callable[..., Any]
) -> None:
    embedded_repository(repository.root)
    with pytest.raises(ModelNotInstalledError, match=f"bandstand models pull {AST}"):
        await ask()
    with pytest.raises(ModelNotInstalledError, match=f"bandstand models pull {JAMENDO}"):
        await ask(model_name=JAMENDO)


async def test_a_model_that_tells_no_instruments_is_refused_by_name(
    ask: Callable[..., Any],
) -> None:
    for name in ("genre_features", "tags_msd"):
        with pytest.raises(UnusableRequestError, match=name):
            await ask(model_name=name)
    with pytest.raises(ModelNotFoundError):
        await ask(model_name="no_such_model")


async def test_a_checkpoint_without_any_of_the_cards_instruments_is_told(
    repository: ModelRepository, ask: Callable[..., Any]
) -> None:
    labels = tuple(f"Sound {number}" for number in range(527))
    card = get_card(AST)
    files = {MODEL_FILE: said_always(card, labels, {}, {})}
    repository.install(card.with_labels(labels), files)
    with pytest.raises(ModelMismatchError, match="instruments"):
        await ask()


def test_an_instrument_that_is_no_label_of_its_card_is_refused(tmp_path: Path) -> None:
    text = get_card(JAMENDO).model_dump_json().replace('"instrument---violin":', '"violin":')
    path = tmp_path / f"{JAMENDO}.yaml"
    path.write_text(text)  # JSON is YAML
    with pytest.raises(CardError, match="violin"):
        load_card(path)


def test_a_checkpoint_brings_its_labels_and_only_their_instruments_stay() -> None:
    card = get_card(AST)
    known = card.with_labels(("Piano", *(f"Sound {number}" for number in range(526))))
    assert known.instruments == {"Piano": "acoustic"}
    assert card.with_labels(TAGS).instruments == card.instruments


def test_every_sound_has_instruments_and_every_instrument_of_jamendo_a_sound() -> None:
    for name in (AST, JAMENDO):
        assert set(get_card(name).instruments.values()) == {"acoustic", "electronic", "either"}
    jamendo = get_card(JAMENDO)
    tagged = {label for label in jamendo.labels if label.startswith("instrument---")}
    assert set(jamendo.instruments) == tagged
