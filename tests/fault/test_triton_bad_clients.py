"""A bad client or a bad recording fails its own call of a Triton server, and no other."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import get_args

import pytest
from tritonclient.grpc import InferenceServerClient

from bandstand.triton.server import TritonServer
from bandstand_client.errors import BandstandClientError, DeadlineError, TooLargeError
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from harness.recordings import tone
from tests.bad_manners import (
    AfterHalf,
    HalfRequest,
    address_of,
    connection,
    send_until_answered,
)
from tests.nan_model import check_loud_ones_fail_alone, install_nan_model
from tests.triton_serving import WAVEFORM_MODEL, embedded_repository, triton_serving

HUGE = 500_000_000
MEGABYTE = bytes(1_000_000)
HALF = 200_000
NORMAL = tone(1.3)
LONG = tone(400.0, sample_rate=8_000)
"""Takes a second of work, or more."""
MORE_THAN_AT_ONCE = 12
"""An audio model works on eight recordings at a time."""
MOST_ROUNDS = 20


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    repository = embedded_repository(tmp_path_factory.mktemp("bad_clients") / "models")
    install_nan_model(repository)
    with triton_serving(repository) as running:
        yield running


@pytest.fixture(scope="module")
def normal_scores(victim: TritonServer) -> dict[str, float]:
    """What the server says before anything happens to it."""
    with BandstandGrpc(victim.grpc_address) as client:
        return client.classify(NORMAL).all_scores


@pytest.fixture(autouse=True)
def answers_afterwards(victim: TritonServer, normal_scores: dict[str, float]) -> Iterator[None]:
    """After every test here the server lives, and answers as before: some check nothing else."""
    yield
    assert victim.process.poll() is None
    with BandstandGrpc(victim.grpc_address) as client:
        assert client.classify(NORMAL).all_scores == pytest.approx(normal_scores, rel=1e-5)


async def test_an_answer_that_is_no_number_is_withheld_from_its_asker_alone(
    victim: TritonServer,
) -> None:
    def counts() -> tuple[int, int]:
        with InferenceServerClient(victim.grpc_address) as client:
            (model,) = client.get_inference_statistics(WAVEFORM_MODEL).model_stats
        return model.inference_count, model.execution_count

    for _ in range(MOST_ROUNDS):
        before = counts()
        async with AsyncBandstandGrpc(victim.grpc_address, retries=0) as client:
            await check_loud_ones_fail_alone(client)
        inferences, executions = (now - then for now, then in zip(counts(), before, strict=True))
        if executions < inferences:
            return
    raise AssertionError("they never met in a batch")


@pytest.mark.parametrize("then", get_args(AfterHalf))
def test_half_a_call_over_grpc_harms_nobody_else(victim: TritonServer, then: AfterHalf) -> None:
    with HalfRequest(address_of(victim.grpc_address), HALF, then) as proxy:
        with (
            BandstandGrpc(proxy.address, retries=0, timeout=2) as client,
            pytest.raises(BandstandClientError),
        ):
            client.classify(tone(30.0))
        assert proxy.reached.is_set()
        with BandstandGrpc(victim.grpc_address) as neighbour:
            assert neighbour.classify(tone(1.0)).primary_genre


@pytest.mark.parametrize("then", get_args(AfterHalf))
def test_half_a_request_over_http_harms_nobody_else(victim: TritonServer, then: AfterHalf) -> None:
    with connection(victim.http_url) as opened:
        opened.sendall(head_of_request(len(LONG)) + LONG[:HALF])
        if then == "closes":
            opened.close()
        with BandstandGrpc(victim.grpc_address) as neighbour:
            assert neighbour.classify(tone(1.0)).primary_genre


def head_of_request(length: int) -> bytes:
    """Return what stands before a recording of that length in a KServe request over HTTP."""
    audio = {
        "name": "audio",
        "shape": [1, 1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": length + 4},
    }
    description = json.dumps({"inputs": [audio]})
    return (
        "POST /v2/models/classify_genre/infer HTTP/1.1\r\nHost: triton\r\n"
        f"Content-Length: {len(description) + 4 + length}\r\n"
        f"Inference-Header-Content-Length: {len(description)}\r\n\r\n{description}"
    ).encode() + length.to_bytes(4, "little")


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_client_that_leaves_before_the_answer_harms_nobody(
    victim: TritonServer, how: str
) -> None:
    for _ in range(8):
        with connection(victim.http_url) as opened:
            opened.sendall(head_of_request(len(LONG)) + LONG)
            if how == "resets":
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with BandstandGrpc(victim.grpc_address) as neighbour:  # while their work is still being done
        assert neighbour.classify(tone(1.0)).primary_genre


async def test_calls_that_are_cancelled_harm_nobody(victim: TritonServer) -> None:
    async with AsyncBandstandGrpc(victim.grpc_address) as client:
        calls = [asyncio.create_task(client.classify(LONG)) for _ in range(MORE_THAN_AT_ONCE)]
        await asyncio.sleep(0.5)
        for call in calls:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert (await client.classify(tone(1.0))).primary_genre


def test_a_deadline_shorter_than_the_work_ends_the_call(victim: TritonServer) -> None:
    with (
        BandstandGrpc(victim.grpc_address, timeout=0.2) as client,
        pytest.raises(DeadlineError),
    ):
        client.classify(LONG)


def test_noise_is_no_request(victim: TritonServer) -> None:
    for url in (victim.grpc_address, victim.http_url):
        said = bytearray()
        with connection(url) as opened, suppress(ConnectionError):
            opened.sendall(bytes(range(256)) * 256)
            opened.shutdown(socket.SHUT_WR)
            while part := opened.recv(4096):  # until the server has had enough, too
                said += part
        assert b"200 OK" not in said
        assert b"answer" not in said


def test_half_a_gigabyte_over_grpc_is_refused(victim: TritonServer) -> None:
    address = victim.grpc_address
    with (
        BandstandGrpc(address, retries=0, timeout=300, max_upload_bytes=2 * HUGE) as client,
        pytest.raises(TooLargeError) as refusal,
    ):
        client.classify(bytes(HUGE))
    assert refusal.value.error_type == "payload_too_large"


def test_half_a_gigabyte_over_http_is_refused(victim: TritonServer) -> None:
    pieces = (MEGABYTE for _ in range(HUGE // len(MEGABYTE)))
    refused = send_until_answered(victim.http_url, head_of_request(HUGE), pieces)
    assert refused.status == 400
    assert b"[413 payload_too_large]" in refused.body
