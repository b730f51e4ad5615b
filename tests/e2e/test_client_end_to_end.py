"""The Python clients against a real server: every call, every kind of refusal it can provoke."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandstand import __version__
from bandstand.frontends.librosa_features import FEATURE_NAMES
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand_client import errors
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.http import AsyncBandstand, Bandstand
from harness.cards import get_card


@pytest.fixture
def sample(samples_dir: Path) -> Path:
    return samples_dir / "band_groove.ogg"


def test_every_call_is_answered(server_url: str, sample: Path) -> None:
    with Bandstand(server_url) as client:
        assert client.wait_ready().status == "ok"
        assert client.health().version == __version__
        genre = client.classify(sample, model_name=DEFAULT_MODEL, top_k=2)
        assert len(genre.predictions) == 2
        assert genre.primary_genre == genre.predictions[0].genre
        assert set(genre.all_scores) == set(get_card(DEFAULT_MODEL).labels)
        features = client.analyze_features(sample.read_bytes())
        assert set(features.features) == set(FEATURE_NAMES)
        assert features.audio == genre.audio
        names = {model.name: model for model in client.models().models}
        assert names[DEFAULT_MODEL].status == "ready"
        metrics = client.model_metrics(DEFAULT_MODEL)
        assert metrics.quality == names[DEFAULT_MODEL].quality


def test_refusals_arrive_by_meaning(server_url: str, sample: Path) -> None:
    with Bandstand(server_url) as client:
        with pytest.raises(errors.InvalidAudioError) as caught:
            client.classify(b"this is no audio")
        assert (caught.value.status, caught.value.error_type) == (415, "not_audio")
        assert caught.value.request_id
        with pytest.raises(errors.NotFoundError):
            client.classify(sample, model_name="no_such_model")
        with pytest.raises(errors.NotFoundError):
            client.model_metrics("../predict")
        with pytest.raises(errors.RefusedError):
            client.classify(sample, top_k=0)
        with pytest.raises(errors.AuthenticationError) as caught:
            client.classify("https://127.0.0.1:1/a.wav")
        assert caught.value.error_type == "address_refused"
        with pytest.raises(errors.TooLargeError):
            client.classify(bytes(65 << 20))


async def test_many_finish_each_with_its_own(server_url: str, sample: Path) -> None:
    audios: list[bytes | str | Path] = [sample, b"bad", sample, str(sample), Path("/no/such")]
    async with AsyncBandstand(server_url) as client:
        results = [pair async for pair in client.classify.many(audios, concurrency=3)]
    kinds = {str(audio)[:20]: type(result) for audio, result in results}
    assert len(results) == len(audios)
    assert kinds["b'bad'"] is errors.InvalidAudioError
    assert kinds["/no/such"] is FileNotFoundError
    good = [result for _, result in results if isinstance(result, GenreAnswer)]
    assert len(good) == 3
    assert len({result.primary_genre for result in good}) == 1
