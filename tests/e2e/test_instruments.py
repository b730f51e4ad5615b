"""Instruments of real recordings: one answer from both gateways and from Triton, one refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme

from bandstand.errors import MalformedRequestError
from bandstand.models.repository import ModelRepository
from bandstand.triton.server import TritonServer
from bandstand_client import errors
from bandstand_client.contract.instruments import InstrumentsAnswer, InstrumentsOptions
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from bandstand_client.http import AsyncBandstand, Bandstand
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import Server, serving
from tests.file_server import FileServer
from tests.file_server import serving as online
from tests.installed_cards import copied, install
from tests.triton_serving import (
    ADMIN_KEY,
    AudioClient,
    bytes_input,
    embedded_repository,
    triton_serving,
)

JAMENDO, AST = "tags_jamendo", "instruments_ast"
MODELS = (JAMENDO, AST)
SOME = 0.03  # the tagger seldom gives an instrument more than a tenth
RUNTIME = "onnxruntime"  # bf16, which a card may prefer, is another arithmetic on purpose
PATH = "/detect/instruments"


@pytest.fixture(scope="module")
def repository(cards_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """The real tagger of MTG-Jamendo, an AST of random weights, and the embedded model."""
    install(cards_root, MODELS)
    models = tmp_path_factory.mktemp("instruments") / "models"
    copied(cards_root, MODELS, models)
    return embedded_repository(models)


@pytest.fixture(scope="module")
def triton(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def embedded(
    repository: ModelRepository,
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """It may fetch from this host."""
    folder = tmp_path_factory.mktemp("embedded")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    with serving(
        folder / "log",
        repository=repository.root,
        runtime=RUNTIME,
        fetch_allowed_networks="127.0.0.0/8",
        fetch_ca_file=folder / "ca.pem",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    triton: TritonServer, repository: ModelRepository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    address = triton.grpc_address
    with serving(log, repository=repository.root, runtime="triton", triton_url=address) as running:
        yield running


@pytest.fixture
def strings(data_dir: Path) -> bytes:
    return (data_dir / "audio" / "pd_Hungarian_Dance_5_strings.ogg").read_bytes()


def over_http(server: Server, audio: bytes, **options: Any) -> dict[str, Any]:
    reply = httpx.post(f"{server.url}{PATH}", params=options, content=audio, timeout=120)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare every field but the timings, numbers within a card's tolerance."""
    card = get_card(one["method"])
    close = {"rel": 10 * card.tolerance.relative, "abs": card.tolerance.absolute}
    assert one.keys() == other.keys()
    assert one["timings_ms"].keys() == other["timings_ms"].keys()
    assert one["all_scores"] == pytest.approx(other["all_scores"], **close)
    # What counts as equal, in the unit of each.
    numbers = {"probability": 1.0, "confidence": 100.0, "raw_score": 1.0}
    by_label = [
        {score["label"]: score for score in answer["instruments"]} for answer in (one, other)
    ]
    assert by_label[0].keys() == by_label[1].keys()
    for label, score in by_label[0].items():
        for name, value in score.items():
            theirs, unit = by_label[1][label][name], numbers.get(name)
            within = pytest.approx(theirs, close["rel"], close["abs"] * unit) if unit else theirs
            assert value == within, (label, name)
    compared = {"all_scores", "timings_ms", "instruments"}
    assert all(one[name] == other[name] for name in one.keys() - compared)


def between_two_scores(answer: dict[str, Any]) -> float:
    """Return a threshold that the last digits of no score reach."""
    scores = np.sort(list(answer["all_scores"].values()))
    at = int(np.argmax(np.diff(scores)))
    return float(scores[at : at + 2].mean())


@pytest.mark.parametrize("model", MODELS)
def test_the_answer_is_the_same_wherever_it_is_asked(
    model: str, embedded: Server, gateway: Server, triton: TritonServer, clips: list[Path]
) -> None:
    client = AudioClient(triton.grpc_address)
    windows = get_card(model).window.seconds
    longest = 0.0
    for clip in clips:
        audio = clip.read_bytes()
        threshold = between_two_scores(over_http(embedded, audio, model_name=model))
        asked = {"model_name": model, "threshold": threshold}
        here = over_http(embedded, audio, **asked)
        assert 0 < len(here["instruments"]) < len(here["all_scores"])
        assert here["primary"] == here["instruments"][0]["instrument"]
        assert_same(here, over_http(gateway, audio, **asked))
        (theirs,) = client.ask("tag_instruments", audio, **asked)
        assert_same(here, theirs)
        longest = max(longest, here["audio"]["duration_seconds"] / windows)
    assert longest > 4, "none of them took many windows"


def test_several_recordings_in_one_request_are_answered_in_order(
    embedded: Server, triton: TritonServer, clips: list[Path]
) -> None:
    recordings = [clip.read_bytes() for clip in clips]
    asked = {"model_name": JAMENDO, "threshold": 0.0}
    answers = AudioClient(triton.grpc_address).ask("tag_instruments", *recordings, **asked)
    for audio, answer in zip(recordings, answers, strict=True):
        assert_same(over_http(embedded, audio, **asked), answer)


def test_strings_are_heard_as_a_listener_hears_them(embedded: Server, strings: bytes) -> None:
    answer = over_http(embedded, strings, model_name=JAMENDO, threshold=SOME)
    names = [score["instrument"] for score in answer["instruments"]]
    assert {"violin", "strings"} & set(names)
    assert (answer["has_acoustic"], answer["has_electronic"]) == (True, False)
    assert answer["instruments"][0]["sound"] == "acoustic"
    electronic = ("synthesizer", "electricguitar", "electricpiano", "drummachine", "computer")
    scores = answer["all_scores"]
    assert scores["violin"] > max(scores[name] for name in electronic)


def test_a_band_is_heard_as_a_listener_hears_it(embedded: Server, data_dir: Path) -> None:
    song = (data_dir / "audio" / "cc_Karissa_Hobbs_Lets_Go_Fishin.ogg").read_bytes()
    answer = over_http(embedded, song, model_name=JAMENDO, threshold=SOME)
    heard = [score["instrument"] for score in answer["instruments"]]
    assert {"guitar", "drums", "bass"} <= set(heard[:4])


def test_options_come_by_query_form_or_json(
    embedded: Server, authority: trustme.CA, strings: bytes
) -> None:
    asked = {"model_name": JAMENDO, "threshold": str(SOME)}
    by_query = over_http(embedded, strings, **asked)
    assert by_query["threshold"] == SOME
    with online(FileServer(strings), authority) as files:
        for body in (
            {"files": {"file": ("a", strings)}, "data": asked},
            {"json": {"audio_url": f"{files.url}/a.ogg", **asked, "threshold": SOME}},
        ):
            reply = httpx.post(f"{embedded.url}{PATH}", timeout=60, **body)
            assert reply.status_code == 200, reply.text
            assert_same(by_query, reply.json())
    assert over_http(embedded, strings)["threshold"] == InstrumentsOptions().threshold


BAD_AUDIO = [(b"these are words", 415, "not_audio"), (b"", 422, "empty_audio")]
BAD_OPTIONS = [
    ({"threshold": 2}, 400, "malformed_request"),
    ({"threshold": float("nan")}, 400, "malformed_request"),
    ({"model_name": "no_such_model"}, 404, "model_not_found"),
    ({"model_name": "genre_features"}, 422, "unusable_request"),
    ({"model_name": "tags_msd"}, 422, "unusable_request"),
]


@pytest.mark.parametrize(("audio", "status", "error_type"), BAD_AUDIO)
def test_what_is_no_audio_is_refused_alike(
    audio: bytes, status: int, error_type: str, gateway: Server, triton: TritonServer
) -> None:
    with Bandstand(gateway.url) as http, BandstandGrpc(triton.grpc_address) as grpc:
        for client in (http, grpc):
            with pytest.raises(errors.InvalidAudioError) as caught:
                client.detect_instruments(audio)
            assert (caught.value.status, caught.value.error_type) == (status, error_type)


@pytest.mark.parametrize(("options", "status", "error_type"), BAD_OPTIONS)
def test_options_that_cannot_be_are_refused_alike(
    options: dict[str, Any],
    status: int,
    error_type: str,
    server_url: str,
    triton_server: TritonServer,
) -> None:
    with Bandstand(server_url) as http, BandstandGrpc(triton_server.grpc_address) as grpc:
        for client in (http, grpc):
            with pytest.raises(errors.error_class(status)) as caught:
                client.detect_instruments(tone(2.0), **options)
            assert (caught.value.status, caught.value.error_type) == (status, error_type)
    params = {name: str(value) for name, value in options.items()}
    for sent in (
        {"params": params, "content": tone(2.0)},
        {"files": {"file": tone(2.0)}, "data": params},
    ):
        reply = httpx.post(f"{server_url}{PATH}", **sent)
        assert (reply.status_code, reply.json()["error_type"]) == (status, error_type)


def test_servers_without_such_a_model_say_how_to_get_one(
    server_url: str, triton_server: TritonServer
) -> None:
    with Bandstand(server_url) as http, BandstandGrpc(triton_server.grpc_address) as grpc:
        for client in (http, grpc):
            for model in (None, JAMENDO):
                with pytest.raises(errors.RefusedError, match="bandstand models pull") as caught:
                    client.detect_instruments(tone(2.0), model_name=model)
                assert (caught.value.status, caught.value.error_type) == (
                    409,
                    "model_not_installed",
                )


def test_options_of_another_model_are_none_here(triton: TritonServer) -> None:
    client = AudioClient(triton.grpc_address)
    for content, why in ((b'{"top_k": 3}', "top_k"), (b"{", "options"), (b"\xff", "options")):
        inputs = [
            bytes_input("audio", [tone(2.0)], (1, 1)),
            bytes_input("options", [content], (1, 1)),
        ]
        with pytest.raises(MalformedRequestError, match=why):
            client.infer("tag_instruments", inputs)


def test_the_best_model_that_is_loaded_answers_unless_one_is_named(
    gateway: Server, triton: TritonServer
) -> None:
    def methods(model: str | None = None) -> set[str]:
        audio = tone(2.0)
        answers = [c.detect_instruments(audio, model_name=model) for c in (http, grpc)]
        return {answer.method for answer in answers}

    with (
        Bandstand(gateway.url) as http,
        BandstandGrpc(triton.grpc_address, api_key=ADMIN_KEY) as grpc,
    ):
        assert methods() == {AST}
        assert methods(JAMENDO) == {JAMENDO}
        grpc.unload_model(AST)
        try:
            assert methods() == {JAMENDO}
            with pytest.raises(errors.RefusedError, match="not"):
                methods(AST)
            grpc.unload_model(JAMENDO)
            for client in (http, grpc):
                with pytest.raises(errors.RefusedError) as caught:
                    client.detect_instruments(tone(2.0))
                assert caught.value.error_type == "model_not_installed"
        finally:
            for model in MODELS:
                grpc.load_model(model)
        assert methods() == {AST}


async def test_clients_for_many_recordings_give_each_its_own(
    gateway: Server, triton: TritonServer, clips: list[Path]
) -> None:
    audios: list[bytes | Path] = [*clips[-2:], b"bad", Path("/no/such")]
    with Bandstand(gateway.url) as client:
        wanted = {clip: client.detect_instruments(clip, model_name=JAMENDO) for clip in clips[-2:]}
    async with (
        AsyncBandstand(gateway.url) as http,
        AsyncBandstandGrpc(triton.grpc_address) as grpc,
    ):
        for many in (http.detect_instruments.many, grpc.detect_instruments.many):
            found = {audio: result async for audio, result in many(audios, 2, model_name=JAMENDO)}
            assert isinstance(found[b"bad"], errors.InvalidAudioError)
            assert isinstance(found[Path("/no/such")], FileNotFoundError)
            for clip, result in wanted.items():
                assert isinstance(found[clip], InstrumentsAnswer)
                assert_same(asdict(result), asdict(found[clip]))


def test_the_command_line_says_what_a_server_says(
    embedded: Server, repository: ModelRepository, data_dir: Path
) -> None:
    clips = [data_dir / "audio" / f"{name}.ogg" for name in ("pd_Hungarian_Dance_5_strings",)]

    def command(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, "-m", "bandstand_cli", "instruments", *map(str, clips), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            env={
                **os.environ,
                "BANDSTAND_REPOSITORY": str(repository.root),
                "BANDSTAND_RUNTIME": RUNTIME,
            },
        )
        return run.stdout

    asked = ("--model", JAMENDO, "--threshold", str(SOME))
    lines = [
        json.loads(command(*asked, "--json", *end)) for end in ((), ("--server", embedded.url))
    ]
    paths = [line.pop("path") for line in lines]
    assert paths == [str(clips[0])] * 2
    assert_same(*lines)
    shown = command(*asked)
    assert "violin" in shown
    assert "acoustic" in shown
    header, row = command(*asked, "--csv", "-").splitlines()
    assert header.startswith("path,primary,has_acoustic,has_electronic,")
    assert row.split(",")[2:4] == ["True", "False"]
