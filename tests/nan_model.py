"""A model whose answer to a loud recording is not a number, in the place of `genre_mfcc_cnn`."""

from __future__ import annotations

import asyncio

import numpy as np
from onnx import TensorProto, helper

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import ServerError
from bandstand_client.grpc import AsyncBandstandGrpc
from bandstand_client.http import AsyncBandstand
from harness.cards import get_card
from harness.recordings import wav
from tests.triton_serving import WAVEFORM_MODEL, graph

LOUDEST = 0.5
SAMPLE_RATE = get_card(WAVEFORM_MODEL).window.sample_rate
QUIET = tuple(np.linspace(0.05, 0.45, 8))
LOUD = 0.9


def recording(peak: float, seconds: float = 0.8) -> bytes:
    """Return a WAV of a tone."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return wav(peak * np.sin(2 * np.pi * 440 * time)[:, None], SAMPLE_RATE)


def install_nan_model(repository: ModelRepository) -> int:
    """Install it; its logits follow a window's peak, and are NaN above `LOUDEST`."""
    card = get_card(WAVEFORM_MODEL)
    return repository.install(card, {MODEL_FILE: _graph(card)})


def _graph(card: Card) -> bytes:
    (samples,), (logits,) = card.inputs, card.outputs
    nodes = [
        helper.make_node("Abs", [samples.name], ["size"]),
        helper.make_node("ReduceMax", ["size", "time"], ["peak"], keepdims=1),
        helper.make_node("Sub", ["loudest", "peak"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("MatMul", ["root", "w"], [logits.name]),
    ]
    weights = {
        "time": np.array([1], np.int64),
        "loudest": np.array([LOUDEST], np.float32),
        "w": np.linspace(-8, 8, len(card.labels), dtype=np.float32)[None],
    }
    return graph(
        nodes,
        weights,
        (samples.name, TensorProto.FLOAT, ["n", *samples.shape]),
        (logits.name, TensorProto.FLOAT, ["n", *logits.shape]),
    )


async def check_loud_ones_fail_alone(client: AsyncBandstand | AsyncBandstandGrpc) -> None:
    """Ask about loud and quiet recordings at once: each quiet one is answered as it is alone."""

    async def ask(peak: float) -> GenreAnswer | BaseException:
        try:
            return await client.classify(recording(peak), model_name=WAVEFORM_MODEL)
        except ServerError as error:
            return error

    alone = [await ask(peak) for peak in QUIET]
    together = await asyncio.gather(*(ask(p) for peak in QUIET for p in (peak, LOUD)))
    assert len({str(scores(answer)) for answer in alone}) == len(QUIET)
    for at, answer in enumerate(together):
        if at % 2:
            assert isinstance(answer, ServerError), answer
            assert (answer.status, answer.error_type) == (500, "non_finite_output")
        else:
            wanted = scores(alone[at // 2])
            np.testing.assert_allclose(scores(answer), wanted, rtol=1e-5)


def scores(answer: GenreAnswer | BaseException) -> list[float]:
    """Return an answer's probabilities."""
    assert isinstance(answer, GenreAnswer), answer
    return list(answer.all_scores.values())
