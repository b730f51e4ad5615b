"""A bad client or a bad model fails its own request at the gateway, and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import get_args

import pytest

from bandstand.models.repository import ModelRepository
from bandstand_bentos.wiring import GATEWAY
from bandstand_client.errors import BandstandClientError, OverloadedError
from bandstand_client.http import AsyncBandstand, Bandstand
from harness.recordings import tone
from harness.serving import Server, serving
from tests.bad_manners import (
    AfterHalf,
    HalfRequest,
    address_of,
    connection,
    most_memory,
    send_until_answered,
)
from tests.nan_model import check_loud_ones_fail_alone, install_nan_model
from tests.triton_serving import embedded_repository

UPLOAD_LIMIT = 8 * 1024 * 1024
DEADLINE_SECONDS = 8
IN_FLIGHT = QUEUED = 8
HUGE = 500_000_000
MEGABYTE = bytes(1_000_000)
HALF = 100_000
PATIENCE_SECONDS = 90.0


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository: ModelRepository = embedded_repository(tmp_path_factory.mktemp("gateway") / "models")
    install_nan_model(repository)
    with serving(
        repository.root.with_name("log"),
        repository=repository.root,
        runtime="onnxruntime",
        feature_cache_entries=0,
        max_upload_bytes=UPLOAD_LIMIT,
        request_deadline_seconds=DEADLINE_SECONDS,
        max_in_flight=IN_FLIGHT,
        max_queued=QUEUED,
        model_share=1.0,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def answers_afterwards(victim: Server, server_url: str) -> Iterator[None]:
    """Compare with a server that none of this happened to."""
    recording = tone(1.3)
    yield
    with Bandstand(victim.url) as client, Bandstand(server_url) as untroubled:
        wanted = untroubled.classify(recording).all_scores
        assert client.classify(recording).all_scores == pytest.approx(wanted, rel=1e-5, abs=1e-7)


async def test_an_answer_that_is_no_number_is_withheld_from_its_asker_alone(
    victim: Server,
) -> None:
    async with AsyncBandstand(victim.url, retries=0) as client:
        await check_loud_ones_fail_alone(client)


@pytest.mark.parametrize("then", get_args(AfterHalf))
def test_half_a_request_harms_nobody_else(victim: Server, then: AfterHalf) -> None:
    with HalfRequest(address_of(victim.url), HALF, then) as proxy:
        with (
            Bandstand(f"http://{proxy.address}", retries=0, timeout=2) as client,
            pytest.raises(BandstandClientError),
        ):
            client.classify(tone(10.0))
        assert proxy.reached.is_set()
        with Bandstand(victim.url) as neighbour:
            assert neighbour.classify(tone(1.0)).primary_genre


def test_silent_halves_hold_their_places_no_longer_than_the_deadline(victim: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: bandstand\r\nContent-Length: 100000\r\n\r\n"
    with ExitStack() as stack:
        silent = [stack.enter_context(connection(victim.url)) for _ in range(IN_FLIGHT + QUEUED)]
        for opened in silent:
            opened.sendall(head + MEGABYTE[: HALF // 2])
        with Bandstand(victim.url, retries=0) as client:
            with pytest.raises(OverloadedError):
                _until_refused(client)
            _until_answered(client)
        assert silent[0].recv(64).startswith(b"HTTP/1.1 504")


def _until_refused(client: Bandstand) -> None:
    """Ask until the house is full: the server takes the connections one by one."""
    ends = time.monotonic() + DEADLINE_SECONDS / 2
    while time.monotonic() < ends:
        client.classify(tone(1.0))


def _until_answered(client: Bandstand) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            client.classify(tone(1.0))
        except OverloadedError:
            assert time.monotonic() < ends
            time.sleep(0.2)
        else:
            return


ANNOUNCED = f"Content-Length: {HUGE}"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("framing", [ANNOUNCED, CHUNKED])
def test_half_a_gigabyte_is_refused_before_it_is_read(victim: Server, framing: str) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: bandstand\r\n{framing}\r\n\r\n".encode()
    piece = b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE) if framing == CHUNKED else MEGABYTE
    before = most_memory(victim)
    refused = send_until_answered(victim.url, head, (piece for _ in range(HUGE // len(MEGABYTE))))
    assert refused.status == 413
    assert b'"payload_too_large"' in refused.body
    assert refused.bytes_sent < HUGE / 2
    assert most_memory(victim) - before < 8 * UPLOAD_LIMIT


def test_noise_is_no_request(victim: Server) -> None:
    with connection(victim.url) as opened:
        opened.sendall(bytes(range(256)) * 64)
        assert b"400" in opened.recv(4096)


def test_uploads_that_stop_leave_no_connection_behind(victim: Server) -> None:
    process = victim.worker(GATEWAY)
    before = len(process.net_connections("tcp"))
    for _ in range(20):
        with connection(victim.url) as opened:
            opened.sendall(b"POST /predict HTTP/1.1\r\nHost: b\r\nContent-Length: 9\r\n\r\nhalf")
    ends = time.monotonic() + PATIENCE_SECONDS
    while len(process.net_connections("tcp")) > before + 2:
        assert time.monotonic() < ends
        time.sleep(0.2)
