"""A recording that several models are asked about is decoded once, and each gets its own."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import av
import numpy as np
import pytest

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.errors import AudioTooShortError, NoOnsetError
from bandstand.models.card import Card, InputSpecification
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.model_output import run_model, run_prepared
from bandstand.pipelines.prepare import LocalPreparation, prepare
from bandstand.pipelines.prepared import STAGES, PreparedRecording, PreparedRows
from bandstand.runners.loaded import load_model
from bandstand.runners.wire import unpack
from bandstand.settings import Settings
from bandstand_bentos.preprocessor import Preprocessor
from bandstand_bentos.remote import FeatureCache, RemotePreparation
from harness.cards import get_card, load_cards, tiny_card
from harness.recordings import tone, wav

LIMITS = DecodeLimits.from_settings(Settings())
FEATURES, MFCC, DRUMS = map(get_card, ("genre_features", "genre_mfcc_cnn", "annoteator_drum_cnn"))
SAME_WINDOW = tuple(map(get_card, ("genre_wav2vec2", "genre_hubert", "instruments_ast")))


def stereo_card() -> Card:
    window = {"sample_rate": 44_100, "seconds": 2.0, "hop_seconds": 2.0, "channels": 2}
    inputs = [{"name": "mix", "shape": [2, 88_200]}]
    return Card.model_validate(
        tiny_card("stereo").model_dump() | {"window": window, "inputs": inputs}
    )


ALL = (*load_cards().values(), stereo_card())


class Worker:
    """The preprocessor without its socket; notes what it was asked, and how many arrays it gave."""

    def __init__(self) -> None:
        self.asked: list[list[InputSpecification]] = []
        self.answered_arrays: list[int] = []
        self._inner = Preprocessor.inner()
        self._context = SimpleNamespace(request=SimpleNamespace(is_disconnected=self._is_gone))

    async def _is_gone(self) -> bool:
        return False

    async def __call__(self, block: bytes) -> bytes:
        _, metadata = unpack(block)
        self.asked.append([InputSpecification.model_validate(each) for each in metadata["wanted"]])
        answer = await Preprocessor.apis["prepare"].func(self._inner, block, self._context)
        arrays, _ = unpack(answer)
        self.answered_arrays.append(len(arrays))
        return answer


@pytest.fixture(scope="module")
def groove(samples_dir: Path) -> bytes:
    return (samples_dir / "band_groove.ogg").read_bytes()


@pytest.fixture(scope="module")
def together(groove: bytes) -> PreparedRecording:
    return prepare(groove, ALL, LIMITS)


def assert_equal_for(card: Card, one: PreparedRecording, other: PreparedRecording) -> None:
    ours, theirs = one.of(card), other.of(card)
    assert ours.inputs.keys() == theirs.inputs.keys() == {card.inputs[0].name}
    for field in ("starts_seconds", "durations_seconds"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    for name, rows in ours.inputs.items():
        assert rows.dtype == np.float32
        assert rows.shape[1:] == card.inputs[0].shape
        np.testing.assert_array_equal(rows, theirs.inputs[name])
    assert one.audio == other.audio


@pytest.mark.parametrize("card", ALL, ids=lambda card: card.name)
def test_each_card_gets_what_it_gets_alone(
    card: Card, together: PreparedRecording, groove: bytes
) -> None:
    assert_equal_for(card, together, prepare(groove, (card,), LIMITS))


def test_it_is_decoded_once(groove: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, really_open = [], av.open

    def counting(*args: object, **kwargs: object) -> object:
        opened.append(args)
        return really_open(*args, **kwargs)

    monkeypatch.setattr(av, "open", counting)
    prepare(groove, ALL, LIMITS)
    assert len(opened) == 1


def test_equal_windows_are_one_array(together: PreparedRecording) -> None:
    rows = [together.of(card).inputs[card.inputs[0].name] for card in SAME_WINDOW]
    assert rows[0] is rows[1] is rows[2]


def test_timings_count_shared_work_once(together: PreparedRecording) -> None:
    parts = [part for part in together.parts.values() if isinstance(part, PreparedRows)]
    assert len(parts) == len(together.parts) == len({card.input_specification.key for card in ALL})
    assert tuple(together.timings_ms) == STAGES
    assert all(set(part.timings_ms) == set(STAGES) for part in parts)
    spent = together.timings_ms
    assert {part.timings_ms["decode"] for part in parts} == {spent["decode"]}
    assert sum(part.timings_ms["front_end"] for part in parts) == pytest.approx(spent["front_end"])
    for stage in ("resample", "cut"):
        each_once = {part.timings_ms[stage] for part in parts}
        assert sum(each_once) == pytest.approx(spent[stage])


def test_what_refuses_one_card_leaves_the_others(groove: bytes) -> None:
    short = prepare(tone(0.7), (MFCC, FEATURES), LIMITS)
    assert len(short.of(MFCC).durations_seconds) == 1
    with pytest.raises(AudioTooShortError, match="at least 1 s"):
        short.of(FEATURES)
    with pytest.raises(KeyError):
        short.of(DRUMS)


async def test_silence_has_no_window_at_an_onset() -> None:
    silence = wav(np.zeros((44_100, 1)), 44_100)
    recording = await LocalPreparation(LIMITS).prepare(silence, (DRUMS, FEATURES))
    with pytest.raises(NoOnsetError):
        recording.of(DRUMS)
    assert len(recording.of(FEATURES).durations_seconds) == 1


def test_no_card_needs_no_window(groove: bytes) -> None:
    recording = prepare(groove, (), LIMITS)
    assert recording.parts == {}
    assert recording.audio.duration_seconds == pytest.approx(
        decode(groove, LIMITS).duration_seconds
    )


async def test_one_block_brings_all_of_it_and_equal_arrays_once(
    together: PreparedRecording, groove: bytes
) -> None:
    preprocessor = Worker()
    remote = RemotePreparation("preprocessor", preprocessor, FeatureCache(0))
    recording = await remote.prepare(groove, ALL)
    for card in ALL:
        assert_equal_for(card, recording, together)
    ((*wanted,),) = preprocessor.asked
    assert len(wanted) == len({card.input_specification.key for card in ALL}) < len(ALL)
    windows = {each.window for each in wanted}
    with_features_and_samples = 1  # genre_features and genre_cnn cut alike
    assert preprocessor.answered_arrays == [3 * len(windows) + with_features_and_samples]


async def test_a_refusal_crosses_the_wire_for_its_card_alone() -> None:
    remote = RemotePreparation("preprocessor", Worker(), FeatureCache(4))
    for _ in range(2):  # a refusal is not kept in the cache either
        recording = await remote.prepare(tone(0.7), (MFCC, FEATURES))
        assert len(recording.of(MFCC).durations_seconds) == 1
        with pytest.raises(AudioTooShortError, match="at least 1 s"):
            recording.of(FEATURES)


async def test_only_what_the_cache_lacks_is_asked_for() -> None:
    preprocessor, cache = Worker(), FeatureCache(4)
    remote = RemotePreparation("preprocessor", preprocessor, cache)
    audio = tone(2.0)
    first = await remote.prepare(audio, (FEATURES, MFCC))
    second = await remote.prepare(audio, (FEATURES, MFCC))
    third = await remote.prepare(audio, (FEATURES,))
    of_mfcc, of_features = MFCC.input_specification, FEATURES.input_specification
    assert preprocessor.asked == [[of_features, of_mfcc], [of_mfcc]]
    for card in (FEATURES, MFCC):
        assert_equal_for(card, second, first)
    assert_equal_for(FEATURES, third, first)
    nothing = dict.fromkeys(STAGES, 0.0)
    assert second.of(FEATURES).timings_ms == nothing != second.of(MFCC).timings_ms
    assert third.timings_ms == third.of(FEATURES).timings_ms == nothing
    await remote.prepare(tone(3.0), (FEATURES,))
    assert len(preprocessor.asked) == 3, "another recording is no hit"


async def test_cached_features_do_not_hold_the_block_they_came_in() -> None:
    cache = FeatureCache(4)
    remote = RemotePreparation("preprocessor", Worker(), cache)
    recording = await remote.prepare(tone(2.0), (FEATURES, MFCC))
    kept = cache.get((recording.audio.sha256, FEATURES.input_specification.key))
    assert kept is not None
    for array in (kept.features.rows, kept.features.starts_seconds):
        assert array.flags.owndata


async def test_a_model_says_the_same_alone_and_beside_others(groove: bytes) -> None:
    settings = Settings(runtime="onnxruntime")
    model = load_model(Catalogue.from_settings(settings).serving(FEATURES.name), settings)
    preparation = LocalPreparation(LIMITS)
    try:
        alone = await run_model(preparation, model, groove, perf_counter())
        recording = await preparation.prepare(groove, (MFCC, model.card))
        beside = await run_prepared(model, recording.of(model.card), perf_counter())
    finally:
        await model.aclose()
    np.testing.assert_array_equal(beside.scores, alone.scores)
    assert beside.audio == alone.audio
    assert beside.stages_ms.keys() == alone.stages_ms.keys() > set(STAGES)
