"""The gRPC clients against a real Triton: every call, every kind of refusal it can provoke."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from bandstand.frontends.librosa_features import FEATURE_NAMES
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.triton.server import TritonServer
from bandstand_client import errors
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from bandstand_client.grpc_transport import MAX_UPLOAD_BYTES
from bandstand_client.http import Bandstand
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import free_port
from tests.triton_serving import ADMIN_KEY, halted

ROW = {"features": np.zeros((1, len(FEATURE_NAMES)), np.float32)}


@pytest.fixture
def sample(samples_dir: Path) -> Path:
    return samples_dir / "band_groove.ogg"


def test_every_call_is_answered(triton_server: TritonServer, sample: Path) -> None:
    with BandstandGrpc(triton_server.grpc_address, api_key=ADMIN_KEY) as client:
        assert client.wait_ready().status == "ok"
        assert client.health().checks[DEFAULT_MODEL] == "ok"
        genre = client.classify(sample, model_name=DEFAULT_MODEL, top_k=2)
        assert len(genre.predictions) == 2
        assert set(genre.all_scores) == set(get_card(DEFAULT_MODEL).labels)
        features = client.analyze_features(sample.read_bytes())
        assert set(features.features) == set(FEATURE_NAMES)
        assert features.audio == genre.audio
        states = {model.name: model.state for model in client.models().models}
        assert states[DEFAULT_MODEL] == "READY"
        inference = client.infer(DEFAULT_MODEL, ROW, version=1)
        assert (inference.version, inference.outputs["logits"].shape) == (1, (1, 10))


def test_grpc_and_http_give_the_same_result(
    triton_server: TritonServer, server_url: str, sample: Path
) -> None:
    with BandstandGrpc(triton_server.grpc_address) as grpc, Bandstand(server_url) as http:
        ours, theirs = grpc.classify(sample), http.classify(sample)
    assert ours.all_scores == pytest.approx(theirs.all_scores, rel=1e-4)

    def compared(result: GenreAnswer) -> list[object]:
        genres = [score.genre for score in result.predictions]
        return [genres, result.method, result.audio, dataclasses.astuple(result.members[0])]

    assert compared(ours) == compared(theirs)


def test_refusals_arrive_by_meaning(triton_server: TritonServer, sample: Path) -> None:
    with BandstandGrpc(triton_server.grpc_address) as client:
        with pytest.raises(errors.InvalidAudioError) as caught:
            client.classify(b"this is no audio")
        assert (caught.value.status, caught.value.error_type) == (415, "not_audio")
        assert caught.value.request_id
        with pytest.raises(errors.InvalidAudioError) as caught:
            client.analyze_features(tone(0.0))
        assert (caught.value.status, caught.value.error_type) == (422, "empty_audio")
        with pytest.raises(errors.NotFoundError):
            client.classify(sample, model_name="no_such_model")
        with pytest.raises(errors.RefusedError) as caught:
            client.classify(sample, model_name="genre_cnn")
        assert (caught.value.status, caught.value.error_type) == (409, "model_not_installed")
        with pytest.raises(errors.RefusedError):
            client.classify(sample, top_k=0)
        with pytest.raises(errors.NotFoundError):
            client.infer("no_such_model", ROW)
        with pytest.raises(errors.NotFoundError):
            client.infer(DEFAULT_MODEL, ROW, version=99)
        with pytest.raises(errors.RefusedError):
            client.infer(DEFAULT_MODEL, {"features": np.zeros((1, 3), np.float32)})
        with pytest.raises(FileNotFoundError):
            client.classify(Path("/no/such/file"))


def test_what_the_server_would_not_take_is_not_sent(triton_server: TritonServer) -> None:
    with BandstandGrpc(triton_server.grpc_address) as client:
        with pytest.raises(errors.TooLargeError):
            client.classify(bytes(MAX_UPLOAD_BYTES + 1))
        with pytest.raises(errors.InvalidAudioError):  # it arrived whole, and was looked at
            client.classify(bytes(MAX_UPLOAD_BYTES))


async def test_many_finish_each_with_its_own(triton_server: TritonServer, sample: Path) -> None:
    audios: list[bytes | str | Path] = [sample, b"bad", sample, str(sample), Path("/no/such")]
    async with AsyncBandstandGrpc(triton_server.grpc_address, api_key=ADMIN_KEY) as client:
        assert (await client.wait_ready()).status == "ok"
        results = [pair async for pair in client.classify.many(audios, concurrency=3)]
        assert (await client.analyze_features(sample)).tempo_bpm > 0
        assert (await client.infer(DEFAULT_MODEL, ROW)).version == 1
        assert any(model.name == DEFAULT_MODEL for model in (await client.models()).models)
    kinds = {str(audio)[:20]: type(result) for audio, result in results}
    assert len(results) == len(audios)
    assert kinds["b'bad'"] is errors.InvalidAudioError
    assert kinds["/no/such"] is FileNotFoundError
    good = [result for _, result in results if isinstance(result, GenreAnswer)]
    assert len(good) == 3
    assert len({result.primary_genre for result in good}) == 1


def test_a_server_that_hangs_is_given_up_on_time(triton_server: TritonServer) -> None:
    with BandstandGrpc(triton_server.grpc_address, timeout=0.5) as client:
        client.infer(DEFAULT_MODEL, ROW)
        with halted(triton_server), pytest.raises(errors.DeadlineError):
            client.infer(DEFAULT_MODEL, ROW)


async def test_no_server_is_unavailable() -> None:
    address = f"127.0.0.1:{free_port()}"
    with BandstandGrpc(address, retries=1) as client:
        with pytest.raises(errors.UnavailableError):
            client.infer(DEFAULT_MODEL, ROW)
        with pytest.raises(errors.UnavailableError):
            client.wait_ready(0.5)
    async with AsyncBandstandGrpc(address, retries=1) as other:
        with pytest.raises(errors.UnavailableError):
            await other.classify(b"whatever")


def test_without_tritonclient_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(ImportError, match=r"bandstand-client\[grpc\]"):
        BandstandGrpc()


def test_what_cannot_be_an_address_or_a_key_is_refused_and_never_shown() -> None:
    with pytest.raises(ValueError, match="host:8001"):
        BandstandGrpc("http://127.0.0.1:8001")
    with pytest.raises(ValueError, match="api_key") as caught:
        BandstandGrpc(api_key="se\ncret")
    assert "cret" not in str(caught.value)
    with BandstandGrpc(api_key="secret") as client:
        assert "secret" not in repr(client)
        assert "secret" not in repr(client._options)
