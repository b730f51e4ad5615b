"""A real Triton server answers as the pipelines do in this process, over gRPC and over HTTP."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from bandstand.errors import BandstandError
from bandstand.local import LocalBandstand
from bandstand.models.repository import ModelRepository
from bandstand.operations.encoding import to_json
from bandstand.settings import Settings
from bandstand.triton.config import write_configs
from bandstand.triton.server import TritonServer
from harness.audio_files import encode_with_ffmpeg, encode_with_soundfile
from harness.audio_files import tone as chord
from harness.cards import get_card
from harness.recordings import flac, long_silence, tone, wav
from tests.triton_serving import (
    EMBEDDED,
    WAVEFORM_MODEL,
    AudioClient,
    bytes_input,
    control_headers,
    embedded_repository,
    install_waveform_model,
    refused,
    triton_serving,
)

AUDIO_MODELS = {"analyze_features", "classify_genre", "decode_audio", "tag_instruments"}
# Another runtime's build, another batch, another numpy: the last digits of float32.
CLOSE = {"rel": 1e-4, "abs": 1e-4}

COUNTED_WITHIN_SECONDS = 10.0


@pytest.fixture(scope="module")
def client(triton_server: TritonServer) -> AudioClient:
    return AudioClient(triton_server.grpc_address)


def assert_same_answer(ours: Any, theirs: Any) -> None:
    """Compare every field but the timings, numbers within the last digits of float32."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"timings_ms"}:
            assert_same_answer(ours[name], theirs[name])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same_answer(one, other)
    elif isinstance(ours, float):
        assert theirs == pytest.approx(ours, **CLOSE)
    else:
        assert ours == theirs


async def local_genre(server: TritonServer, audio: bytes, **options: Any) -> dict[str, Any]:
    settings = Settings(repository=server.options.repository, runtime="onnxruntime")
    async with LocalBandstand(settings) as pipelines:
        answer = await pipelines.classify(audio, **options)
    return json.loads(to_json(answer))


def test_every_model_is_loaded(triton_server: TritonServer) -> None:
    models = triton_server.models()
    assert {model.name for model in models} == {EMBEDDED, WAVEFORM_MODEL, *AUDIO_MODELS}
    assert all(model.ready for model in models), models


@pytest.mark.parametrize("model", [EMBEDDED, WAVEFORM_MODEL])
async def test_genre_of_real_clips_equals_the_local_pipeline(
    model: str, triton_server: TritonServer, client: AudioClient, clips: list[Path]
) -> None:
    for clip in clips:
        audio = clip.read_bytes()
        (answer,) = client.ask("classify_genre", audio, model_name=model, top_k=4)
        ours = await local_genre(triton_server, audio, model_name=model, top_k=4)
        assert_same_answer(ours, answer)
        assert set(ours["timings_ms"]) == set(answer["timings_ms"])


@pytest.mark.parametrize("model", [EMBEDDED, WAVEFORM_MODEL])
async def test_a_track_longer_than_a_batch_equals_the_local_pipeline(
    model: str, triton_server: TritonServer, client: AudioClient
) -> None:
    card = get_card(WAVEFORM_MODEL)
    seconds = card.window.hop_seconds * (card.batch.max_size + 7)
    audio = wav(chord(seconds, 8_000), 8_000)
    (answer,) = client.ask("classify_genre", audio, model_name=model)
    assert_same_answer(await local_genre(triton_server, audio, model_name=model), answer)
    assert answer["audio"]["duration_seconds"] == pytest.approx(seconds)


async def test_features_equal_the_local_pipeline(client: AudioClient, samples_dir: Path) -> None:
    audio = (samples_dir / "band_groove.ogg").read_bytes()
    async with LocalBandstand() as pipelines:
        ours = await pipelines.analyze_features(audio)
    (answer,) = client.ask("analyze_features", audio)
    assert_same_answer(json.loads(to_json(ours)), answer)


def test_several_recordings_in_one_request_are_answered_in_order(client: AudioClient) -> None:
    lengths = [2.0, 35.0, 1.0]
    answers = client.ask("classify_genre", *(tone(seconds) for seconds in lengths))
    assert [answer["audio"]["duration_seconds"] for answer in answers] == lengths


def test_a_slow_recording_does_not_hold_up_a_short_one(client: AudioClient) -> None:
    """The answer to the short one is there while the long ones are still worked on."""
    long_one, short_one = wav(chord(300, 22_050), 22_050), tone(1)
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(client.ask, "classify_genre", long_one) for _ in range(2)]
        pool.submit(client.ask, "classify_genre", short_one).result()
        assert not all(work.done() for work in slow)
        for work in slow:
            assert work.result()


HOSTILE = {
    "nothing": b"",
    "no sample": wav(np.zeros((0, 1)), 44_100),
    "text": b"These are words in a file called song.mp3.\n" * 200,
    "zeros": bytes(100_000),
    "noise": np.random.default_rng(1).bytes(100_000),
    "half a header": wav(chord(1, 22_050), 22_050)[:30],
    "a playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "another codec": encode_with_ffmpeg(chord(1, 48_000, 2), 48_000, "mpegts", "aac"),
    "not a number": wav(np.full((22_050, 1), np.nan), 22_050, "DOUBLE"),
    "infinity": wav(np.full((22_050, 1), np.inf), 22_050, "FLOAT"),
    "nine channels": wav(chord(0.2, 44_100, 9), 44_100),
    "a rate too low": wav(chord(0.2, 2_000), 2_000),
    "a rate too high": wav(chord(0.2, 384_000), 384_000),
    "too short": tone(0.05),
    "ten hours": long_silence(hours=10),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_audio_is_refused_as_in_this_process(name: str, client: AudioClient) -> None:
    async with LocalBandstand() as pipelines:
        with pytest.raises(BandstandError) as ours:
            await pipelines.classify(HOSTILE[name])
        for model in ("classify_genre", "analyze_features"):
            theirs = refused(client, model, HOSTILE[name])
            assert (type(theirs), theirs.message) == (type(ours.value), ours.value.message)


def test_formats_and_cut_files_are_answered(client: AudioClient) -> None:
    recordings = [
        flac(chord(3, 22_050), 22_050),
        encode_with_soundfile(chord(3, 22_050), 22_050, "OGG", "VORBIS"),
        encode_with_ffmpeg(chord(3, 44_100, 2), 44_100, "mp3", "libmp3lame"),
        encode_with_ffmpeg(chord(3, 48_000), 48_000, "webm", "libopus"),
    ]
    answers = client.ask("classify_genre", *recordings, recordings[0][: len(recordings[0]) // 2])
    assert [answer["audio"]["truncated"] for answer in answers] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("options", "error_type"),
    [
        ({"model_name": "no_such_model"}, "model_not_found"),
        ({"model_name": "genre_hubert"}, "model_not_installed"),
        ({"model_name": "tags_msd"}, "unusable_request"),
        ({"top_k": 0}, "malformed_request"),
        ({"colour": "blue"}, "malformed_request"),
    ],
)
def test_options_are_refused_by_name(
    options: dict[str, Any], error_type: str, client: AudioClient
) -> None:
    assert refused(client, "classify_genre", tone(1), **options).error_type == error_type


def test_options_that_are_no_json_are_refused(client: AudioClient) -> None:
    for content in (b"{", b"\xff\xfe", b"[1]"):
        inputs = [
            bytes_input("audio", [tone(1)], (1, 1)),
            bytes_input("options", [content], (1, 1)),
        ]
        with pytest.raises(BandstandError) as refusal:
            client.infer("classify_genre", inputs)
        assert refusal.value.error_type == "malformed_request"


def test_http_answers_as_grpc(triton_server: TritonServer, client: AudioClient) -> None:
    audio = tone(3)
    tensor = client.ask("classify_genre", audio)[0]
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "audio",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(audio) + 4},
                }
            ]
        }
    ).encode()
    answer = httpx.post(
        f"{triton_server.http_url}/v2/models/classify_genre/infer",
        content=header + len(audio).to_bytes(4, "little") + audio,
        headers={"Inference-Header-Content-Length": str(len(header))},
        timeout=30,
    ).json()
    assert_same_answer(tensor, json.loads(answer["outputs"][0]["data"][0]))


def test_http_errors_carry_the_type(triton_server: TritonServer) -> None:
    body = {"inputs": [{"name": "audio", "shape": [1, 1], "datatype": "BYTES", "data": ["words"]}]}
    answer = httpx.post(f"{triton_server.http_url}/v2/models/classify_genre/infer", json=body)
    assert answer.status_code == 501
    assert answer.json()["error"].startswith("[415 not_audio] ")


def test_what_many_ask_at_once_is_one_batch(client: AudioClient) -> None:
    card = get_card(EMBEDDED)
    rows = np.random.default_rng(3).normal(size=(64, 57)).astype(np.float32)

    def counts() -> tuple[int, int]:
        statistics = client.grpc.get_inference_statistics(EMBEDDED).model_stats[0]
        return statistics.inference_count, statistics.execution_count

    def ask(row: np.ndarray) -> np.ndarray:
        tensor = grpc.InferInput(card.inputs[0].name, [1, 57], "FP32")
        tensor.set_data_from_numpy(row[None])
        logits: np.ndarray = client.grpc.infer(EMBEDDED, [tensor]).as_numpy("logits")
        return logits[0]

    alone = np.stack([ask(row) for row in rows])
    before = counts()
    with ThreadPoolExecutor(32) as pool:
        together = np.stack(list(pool.map(ask, np.tile(rows, (8, 1)))))
    np.testing.assert_allclose(together, np.tile(alone, (8, 1)), rtol=1e-4, atol=1e-4)
    deadline = time.monotonic() + COUNTED_WITHIN_SECONDS
    while (after := counts())[0] - before[0] < 512 and time.monotonic() < deadline:
        time.sleep(0.05)  # Triton counts an execution after it has answered
    assert after[0] - before[0] == 512
    assert after[1] - before[1] < 512


def test_a_window_of_another_length_is_refused(client: AudioClient) -> None:
    tensor = grpc.InferInput("samples", [1, 100], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 100), np.float32))
    with pytest.raises(InferenceServerException, match="unexpected shape"):
        client.grpc.infer(WAVEFORM_MODEL, [tensor])


def test_decoded_windows_are_what_the_model_takes(client: AudioClient) -> None:
    card = get_card(WAVEFORM_MODEL)
    inputs = [bytes_input("audio", [tone(7)], (1,)), bytes_input("card", [b"genre_mfcc_cnn"], (1,))]
    result = client.infer("decode_audio", inputs)
    windows = result.as_numpy("windows")
    assert windows.shape == (3, *card.inputs[0].shape)
    np.testing.assert_allclose(result.as_numpy("starts_seconds"), [0, 3, 6])
    np.testing.assert_allclose(result.as_numpy("durations_seconds"), [3, 3, 1], atol=1e-4)
    metadata = json.loads(result.as_numpy("metadata")[0])
    assert (metadata["card"], metadata["audio"]["duration_seconds"]) == (card.name, 7.0)


ENSEMBLE = """
name: "logits_of_audio"
platform: "ensemble"
input { name: "audio" data_type: TYPE_STRING dims: 1 }
output { name: "logits" data_type: TYPE_FP32 dims: [ -1, 10 ] }
ensemble_scheduling {
  step {
    model_name: "decode_audio" model_version: -1
    input_map { key: "audio" value: "audio" }
    output_map { key: "windows" value: "windows" }
  }
  step {
    model_name: "genre_features" model_version: -1
    input_map { key: "features" value: "windows" }
    output_map { key: "logits" value: "logits" }
  }
}
"""


def test_an_ensemble_of_ones_own_and_a_new_version(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path / "models")
    install_waveform_model(repository)
    ensemble = repository.root / "logits_of_audio"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text(ENSEMBLE)
    with triton_serving(repository) as server:
        client = AudioClient(server.grpc_address)
        result = client.infer("logits_of_audio", [bytes_input("audio", [tone(61)], (1,))])
        assert result.as_numpy("logits").shape == (3, 10)
        a_new_version_answers_and_is_named(client, repository, control_headers(server))


def a_new_version_answers_and_is_named(
    client: AudioClient, repository: ModelRepository, headers: dict[str, str]
) -> None:
    """Install, load, pin and load again; the answer names the version that gave it."""

    def answer() -> tuple[int, dict[str, float]]:
        (given,) = client.ask("classify_genre", tone(4), model_name=WAVEFORM_MODEL)
        return given["members"][0]["version"], given["all_scores"]

    first = answer()
    install_waveform_model(repository, seed=40)
    assert answer() == (1, first[1]), "installed is not loaded"
    write_configs(repository)
    client.grpc.load_model(WAVEFORM_MODEL, headers=headers)
    second = answer()
    assert second[0] == 2
    assert second[1] != first[1]
    repository.pin(WAVEFORM_MODEL, 1)
    write_configs(repository)
    client.grpc.load_model(WAVEFORM_MODEL, headers=headers)
    assert answer() == first
    client.grpc.unload_model(WAVEFORM_MODEL, headers=headers)
    assert refused(client, "classify_genre", tone(4), model_name=WAVEFORM_MODEL).status == 409
