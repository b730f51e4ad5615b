"""The documented paths answer what is documented, and refuse what is documented, over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from bandstand_client.contract.features import FeaturesAnswer
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.contract.models import ModelList
from bandstand_client.contract.shared import Health, Refusal
from bandstand_client.reading import read
from harness.recordings import flac, long_silence, tone, wav


@pytest.fixture(scope="module")
def http(server_url: str) -> httpx.Client:
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client


def test_three_ways_to_send_audio_give_one_answer(http: httpx.Client, samples_dir: Path) -> None:
    audio = (samples_dir / "band_groove.ogg").read_bytes()
    answers = [
        http.post("/predict", content=audio),
        http.post("/predict", files={"file": ("renamed.txt", audio)}),
        http.post(
            "/predict",
            content=audio,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        ),
    ]
    assert [a.status_code for a in answers] == [200, 200, 200]
    scores = [read(GenreAnswer, a.json()).all_scores for a in answers]
    assert scores[0] == scores[1] == scores[2]
    assert sum(scores[0].values()) == pytest.approx(1.0, abs=1e-6)


def test_options_come_by_query_or_form(http: httpx.Client) -> None:
    audio = tone(2.0)
    by_query = http.post("/predict", params={"top_k": 5}, content=audio).json()
    by_form = http.post("/predict", files={"file": audio}, data={"top_k": "5"}).json()
    assert len(by_query["predictions"]) == len(by_form["predictions"]) == 5
    assert by_query["predictions"] == by_form["predictions"]
    confidences = [p["confidence"] for p in by_query["predictions"]]
    assert confidences == sorted(confidences, reverse=True)
    assert by_query["primary_genre"] == by_query["predictions"][0]["genre"]


def test_features_of_a_long_recording_are_pooled_over_windows(http: httpx.Client) -> None:
    answer = http.post("/analyze/features", content=tone(65.0))
    features = read(FeaturesAnswer, answer.json())
    assert [round(w.duration_seconds) for w in features.windows] == [30, 30, 5]
    assert [w.start_seconds for w in features.windows] == [0.0, 30.0, 60.0]
    assert features.tempo_bpm == pytest.approx(120, rel=0.03)
    assert len(features.features) == 57


def test_models_and_their_metrics(http: httpx.Client) -> None:
    models = read(ModelList, http.get("/models").json()).models
    embedded = next(m for m in models if m.name == "genre_features")
    assert embedded.status == "ready"
    assert embedded.version is not None
    protocols = [q.protocol for q in embedded.quality]
    assert len(protocols) >= 2, "the random-split figure never stands alone"
    metrics = http.get("/models/genre_features/metrics").json()
    assert metrics["report"]["card"] == "genre_features"
    assert metrics["report"]["proof"]["source_difference"]["logits"]["tolerance_used"] < 1
    assert [q["protocol"] for q in metrics["quality"]] == protocols
    assert http.get("/models/nope/metrics").status_code == 404


def test_health_paths(http: httpx.Client) -> None:
    for path in ("/livez", "/readyz", "/health"):
        answer = http.get(path)
        assert answer.status_code == 200
        assert read(Health, answer.json()).status == "ok"
    checks = http.get("/readyz").json()["checks"]
    assert checks == {"preprocessor": "ok", "genre_features": "ok"} | checks


def test_metrics_cover_every_stage(http: httpx.Client) -> None:
    http.post("/predict", content=tone(1.5, hz=333.0))
    text = http.get("/metrics").text
    for stage in ("queue", "decode", "resample", "cut", "front_end", "prepare", "inference"):
        assert f'bandstand_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'bandstand_batch_rows_count{model="genre_features"}' in text
    assert 'bandstand_model_inference_seconds_count{model="genre_features"}' in text
    assert 'route="/predict",status="200"' in text


def test_request_id_is_kept_or_made(http: httpx.Client) -> None:
    kept = http.get("/livez", headers={"X-Request-ID": "abc-123"})
    assert kept.headers["X-Request-ID"] == "abc-123"
    made = http.get("/livez", headers={"X-Request-ID": "not one\tword"})
    assert len(made.headers["X-Request-ID"]) == 32


def test_a_second_look_comes_from_the_cache(http: httpx.Client) -> None:
    audio = tone(3.0, hz=521.0)
    first = http.post("/predict", content=audio).json()
    second = http.post("/predict", content=audio).json()
    assert first["timings_ms"]["front_end"] > 0.0
    assert second["timings_ms"]["front_end"] == 0.0
    assert first["all_scores"] == second["all_scores"]


def test_the_description_names_every_path(http: httpx.Client) -> None:
    paths = set(http.get("/openapi.json").json()["paths"])
    assert {
        "/predict",
        "/detect/instruments",
        "/analyze/features",
        "/models",
        "/models/{name}/metrics",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
    } <= paths
    assert http.get("/docs").status_code == 200


def test_what_is_not_declared_is_refused_wherever_it_stands(http: httpx.Client) -> None:
    audio = tone(1.0)
    answers = {
        "topk": http.post("/predict?topk=5", content=audio),
        "top": http.post("/predict", files={"file": ("a.wav", audio)}, data={"top": "5"}),
        "limit": http.post("/predict", json={"audio_url": "https://127.0.0.1/", "limit": 5}),
        "threshold": http.post("/analyze/features?threshold=0.5", content=audio),
        "page": http.get("/models?page=2"),
    }
    for name, answer in answers.items():
        refusal = read(Refusal, answer.json())
        assert (answer.status_code, refusal.error_type) == (400, "malformed_request"), name
        assert refusal.error.startswith(name)
    assert "model_name, top_k" in answers["topk"].json()["error"]


NAN = np.full((22_050, 1), np.nan, np.float32)
REFUSED = {
    "empty body": (b"", 422, "empty_audio"),
    "text renamed .mp3": (b"this is no music\n" * 400, 415, "not_audio"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(2000), 415, "not_audio"),
    "zero-length wav": (wav(np.zeros((0, 1)), 22_050), 422, "empty_audio"),
    "nan samples": (wav(NAN, 22_050, "FLOAT"), 422, "non_finite_audio"),
    "nine channels": (wav(np.zeros((8000, 9)), 8_000), 422, "unsupported_audio"),
    "half a second": (tone(0.5), 422, "audio_too_short"),
    "sixteen minutes of silence": (flac(np.zeros((960 * 8000, 1)), 8_000), 413, "audio_too_long"),
    "ten hours of silence": (long_silence(hours=10), 413, "audio_too_long"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("path", ["/predict", "/analyze/features"])
def test_bad_audio_is_refused_by_name(http: httpx.Client, case: str, path: str) -> None:
    content, status, kind = REFUSED[case]
    answer = http.post(path, files={"file": ("song.mp3", content)})
    error = read(Refusal, answer.json())
    assert (answer.status_code, error.error_type) == (status, kind), error.error
    assert error.request_id == answer.headers["X-Request-ID"]
    assert http.get("/readyz").status_code == 200


def test_unusual_audio_is_answered(http: httpx.Client) -> None:
    for content in (tone(2.0, sample_rate=192_000), tone(2.0, channels=8)):
        assert http.post("/predict", content=content).status_code == 200


def test_a_truncated_mp3_is_answered_and_says_so(http: httpx.Client, samples_dir: Path) -> None:
    whole = (samples_dir / "fiddle_reel.mp3").read_bytes()
    for content, truncated in ((whole, False), (whole[: len(whole) // 2], True)):
        answer = http.post("/predict", content=content)
        assert answer.status_code == 200
        assert answer.json()["audio"]["truncated"] is truncated


MALFORMED = {
    "json without a url": ({"json": {"url": "x"}}, 400, "malformed_request"),
    "json list": ({"json": [1]}, 400, "malformed_request"),
    "broken json": (
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_request",
    ),
    "deep json": (
        {"content": b"[" * 10_000, "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_request",
    ),
    "multipart without boundary": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "malformed_request",
    ),
    "wrong field": ({"files": {"song": b"x"}}, 400, "malformed_request"),
    "text field": ({"files": {"other": b"x"}, "data": {"file": "x"}}, 400, "malformed_request"),
    "private address": ({"json": {"audio_url": "https://10.0.0.1/a"}}, 403, "address_refused"),
    "loopback by name": ({"json": {"audio_url": "https://localhost/a"}}, 403, "address_refused"),
    "http url": ({"json": {"audio_url": "http://example.org/a"}}, 400, "malformed_request"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_refused_by_name(http: httpx.Client, case: str) -> None:
    request, status, kind = MALFORMED[case]
    answer = http.post("/predict", **request)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind)


def test_models_that_cannot_answer_are_named(http: httpx.Client) -> None:
    unknown = http.post("/predict", params={"model_name": "nope"}, content=tone(1.5))
    assert (unknown.status_code, unknown.json()["error_type"]) == (404, "model_not_found")
    bad = http.post("/predict", params={"top_k": 0}, content=tone(1.5))
    assert (bad.status_code, bad.json()["error_type"]) == (400, "malformed_request")


def test_unknown_paths_and_methods_have_the_same_shape(http: httpx.Client) -> None:
    assert http.get("/nowhere").json()["error_type"] == "not_found"
    wrong = http.get("/predict")
    assert wrong.status_code == 405
    assert wrong.json()["error_type"] == "method_not_allowed"
    assert wrong.headers["allow"] == "POST"


def test_a_body_above_the_limit_is_refused_while_it_is_sent(http: httpx.Client) -> None:
    promised = http.post("/predict", content=bytes(65 * 1024 * 1024))
    assert promised.status_code == 413

    def chunks() -> object:
        for _ in range(65):
            yield bytes(1024 * 1024)

    streamed = http.post("/predict", content=chunks())
    assert (streamed.status_code, streamed.json()["error_type"]) == (413, "payload_too_large")
    assert http.get("/readyz").status_code == 200


def test_answers_hold_no_bare_nan(http: httpx.Client) -> None:
    silence = wav(np.zeros((3 * 22_050, 1)), 22_050)
    for path in ("/predict", "/analyze/features"):
        answer = http.post(path, content=silence)
        assert answer.status_code == 200

        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        json.loads(answer.content, parse_constant=refuse)
