"""One model, four ways to the same answer, for every card.

The framework that the model was trained in, ONNX Runtime in this process, BentoML over HTTP, and
Triton over gRPC: the same windows of real recordings, within the card's tolerance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import pytest

from bandstand.local import LocalBandstand
from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.runners.base import Array
from bandstand.runners.load import load_runner
from bandstand.runners.wire import pack, unpack
from bandstand.settings import Settings
from bandstand.triton.server import TritonServer
from bandstand_bentos.model_runner import SHARED_RUNNER, runner_name
from bandstand_bentos.wiring import GATEWAY
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.grpc import BandstandGrpc
from bandstand_client.http import Bandstand
from harness.cards import load_cards
from harness.serving import Server, serving
from tests.installed_cards import (
    INSTALLABLE,
    KERAS,
    answered,
    install,
    install_keras,
    recordings,
)
from tests.triton_serving import triton_serving

RUNTIME: Final = "onnxruntime"  # bf16, where a card prefers it, is another arithmetic on purpose


@pytest.fixture(scope="module")
def installed(cards_root: Path) -> Path:
    """A folder with every model, and the source frameworks' answers."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed: pip install 'bandstand[keras]'")
    install_keras(cards_root)
    install(cards_root, sorted(INSTALLABLE - KERAS.keys()))
    return cards_root


@pytest.fixture(scope="module")
def repository(installed: Path) -> ModelRepository:
    return ModelRepository(installed / "models")


@pytest.fixture(scope="module")
def bento(installed: Path, repository: ModelRepository) -> Iterator[Server]:
    """The gateway, and a runner service for every model."""
    settings = {"repository": repository.root, "runtime": RUNTIME, "threads_per_runner": 1}
    with serving(installed / "bento.log", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def triton(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


def over_http(server: Server, card: Card, windows: Array) -> dict[str, Array]:
    """Ask the BentoML service that runs the model, which listens on a socket of this host."""
    addresses = json.loads(server.worker(GATEWAY).environ()["BENTOML_RUNNER_MAP"])
    service = runner_name(card.name) if card.runner == "own" else SHARED_RUNNER
    socket = addresses[service].removeprefix("file://")
    block = pack({card.inputs[0].name: windows}, {"model": card.name})
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=120) as client:
        answer = client.post(
            "http://runner/infer",
            content=block,
            headers={"Content-Type": "application/octet-stream"},
        )
    outputs, metadata = unpack(answer.raise_for_status().content)
    assert "error" not in metadata, metadata
    assert metadata["runtime"].startswith(RUNTIME)
    return outputs


def over_grpc(server: TritonServer, card: Card, windows: Array) -> dict[str, Array]:
    with BandstandGrpc(server.grpc_address, timeout=120) as client:
        return client.infer(card.name, {card.inputs[0].name: windows}).outputs


def assert_within_tolerance(card: Card, found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert found.keys() == wanted.keys() == {tensor.name for tensor in card.outputs}
    tolerance = card.tolerance
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, tolerance.relative, tolerance.absolute)


@pytest.mark.parametrize("name", load_cards())
def test_four_ways_to_one_answer(
    name: str,
    installed: Path,
    repository: ModelRepository,
    bento: Server,
    triton: TritonServer,
) -> None:
    assert name in INSTALLABLE, f"no checkpoint to try {name} with: tests/installed_cards.py"
    card = load_cards()[name]
    windows, wanted = answered(installed, name)
    # Windows get different answers, or a mixed-up batch would not be seen.
    assert np.ptp(wanted[card.outputs[0].name], axis=0).max() > 50 * card.tolerance.absolute
    runner = load_runner(card, repository.latest(name).model_path, runtime=RUNTIME)
    assert_within_tolerance(card, runner.run({card.inputs[0].name: windows}), wanted)
    assert_within_tolerance(card, over_http(bento, card, windows), wanted)
    assert_within_tolerance(card, over_grpc(triton, card, windows), wanted)


GENRE_CARDS = [name for name, card in load_cards().items() if card.task == "genre"]


@pytest.mark.parametrize("name", GENRE_CARDS)
async def test_a_recordings_genre_is_the_same_wherever_it_is_asked(
    name: str, repository: ModelRepository, bento: Server, triton: TritonServer
) -> None:
    card = repository.latest(name).card()
    recording = recordings(card)[-1]
    settings = Settings(repository=repository.root, runtime=RUNTIME)
    async with LocalBandstand(settings) as pipelines:
        audio = recording.read_bytes()
        here = await pipelines.classify(audio, model_name=name, top_k=len(card.labels))
    with Bandstand(bento.url) as http, BandstandGrpc(triton.grpc_address) as grpc:
        for client in (http, grpc):
            there = client.classify(recording, model_name=name, top_k=len(card.labels))
            assert_same_genre(card, there, here)


def raw_scores(answer: GenreAnswer) -> dict[str, float]:
    return {score.genre: score.raw_score for score in answer.predictions}


def assert_same_genre(card: Card, there: GenreAnswer, here: GenreAnswer) -> None:
    relative, absolute = card.tolerance.relative, card.tolerance.absolute
    assert there.all_scores == pytest.approx(here.all_scores, relative, absolute)
    assert raw_scores(there) == pytest.approx(raw_scores(here), relative, absolute)
    assert there.members[0].model == there.method == card.name
    assert there.audio.sha256 == here.audio.sha256
