"""Only who has the administrator's key changes a Triton server; computing needs no key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from bandstand.errors import ModelControlOffError
from bandstand.models.repository import ModelRepository
from bandstand.runners.triton import TritonModel
from bandstand.runners.triton_connection import TritonConnection
from bandstand.runners.triton_memory import SMALLEST_BYTES, SharedMemory
from bandstand.triton.server import ServerOptions, TritonServer
from bandstand_client.errors import AuthenticationError
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from bandstand_client.http import Bandstand
from bandstand_client.triton_control import GRPC_HEADER, HEADER, REFUSAL, control_key
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import free_port, serving
from tests.triton_serving import (
    ADMIN_KEY,
    EMBEDDED,
    WAVEFORM_MODEL,
    control_headers,
    embedded_repository,
    killed_at_the_end,
)

MODELS = (EMBEDDED, WAVEFORM_MODEL)
OTHER_KEYS = {"none": None, "another": "not the administrator's"}

Call = Callable[..., Any]
GRPC_CALLS: dict[str, Call] = {
    "load": lambda client, **given: client.load_model(EMBEDDED, **given),
    "unload": lambda client, **given: client.unload_model(EMBEDDED, **given),
    "index": lambda client, **given: client.get_model_repository_index(**given),
    "register": lambda client, **given: client.register_system_shared_memory(
        "stolen", "/stolen", 64, **given
    ),
    "unregister": lambda client, **given: client.unregister_system_shared_memory(**given),
    "regions": lambda client, **given: client.get_system_shared_memory_status(**given),
    "trace": lambda client, **given: client.update_trace_settings(
        settings={"trace_rate": "1"}, **given
    ),
    "logging": lambda client, **given: client.update_log_settings(
        settings={"log_verbose_level": 9}, **given
    ),
}
HTTP_PATHS = (
    f"repository/models/{EMBEDDED}/load",
    f"repository/models/{EMBEDDED}/unload",
    "repository/index",
    "systemsharedmemory/region/stolen/register",
    "systemsharedmemory/unregister",
    "trace/setting",
    "logging",
)


@pytest.fixture
def client(triton_server: TritonServer) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(triton_server.grpc_address) as client:
        yield client


@pytest.fixture
async def keyless(triton_server: TritonServer) -> AsyncIterator[TritonConnection]:
    opened = TritonConnection(triton_server.grpc_address, channels=1, deadline_seconds=30)
    yield opened
    await opened.aclose()


def still_serves(server: TritonServer) -> bool:
    return set(MODELS) <= {model.name for model in server.models() if model.ready}


@pytest.mark.parametrize("key", OTHER_KEYS)
@pytest.mark.parametrize("call", GRPC_CALLS)
def test_a_call_that_changes_the_server_is_refused_without_its_key(
    triton_server: TritonServer, client: grpc.InferenceServerClient, call: str, key: str
) -> None:
    other = OTHER_KEYS[key]
    headers = {} if other is None else {GRPC_HEADER: control_key(other)}
    with pytest.raises(InferenceServerException, match=REFUSAL):
        GRPC_CALLS[call](client, headers=headers)
    assert still_serves(triton_server)


@pytest.mark.parametrize("key", OTHER_KEYS)
@pytest.mark.parametrize("path", HTTP_PATHS)
def test_a_request_that_changes_the_server_is_refused_without_its_key(
    triton_server: TritonServer, path: str, key: str
) -> None:
    other = OTHER_KEYS[key]
    headers = {} if other is None else {HEADER: control_key(other)}
    answer = httpx.post(f"{triton_server.http_url}/v2/{path}", json={}, headers=headers)
    assert answer.status_code == 403
    assert still_serves(triton_server)


def test_with_the_key_every_such_call_is_answered(
    triton_server: TritonServer, client: grpc.InferenceServerClient
) -> None:
    headers = control_headers(triton_server)
    assert triton_server.control_key == control_key(ADMIN_KEY)
    client.load_model(EMBEDDED, headers=headers)
    names = {model.name for model in client.get_model_repository_index(headers=headers).models}
    assert set(MODELS) <= names
    assert not client.get_system_shared_memory_status(headers=headers).regions


def test_the_clients_say_so_at_once_and_the_rest_needs_no_key(triton_server: TritonServer) -> None:
    with BandstandGrpc(triton_server.grpc_address, timeout=300) as client:
        for refused in (client.models, lambda: client.unload_model(EMBEDDED)):
            with pytest.raises(AuthenticationError, match="administrator") as caught:
                refused()
            assert (caught.value.status, caught.value.error_type) == (403, "forbidden")
        assert client.wait_ready().checks == {}
        assert client.classify(tone(3.0)).primary_genre

    async def is_ready() -> str:
        async with AsyncBandstandGrpc(triton_server.grpc_address) as other:
            return (await other.wait_ready()).status

    assert asyncio.run(is_ready()) == "ok"


async def test_a_connection_without_the_key_computes_through_the_socket(
    triton_server: TritonServer, keyless: TritonConnection
) -> None:
    for change in (keyless.load, keyless.unload):
        with pytest.raises(ModelControlOffError, match="BANDSTAND_ADMIN_KEY"):
            await change(EMBEDDED)
    assert await keyless.ready_versions([*MODELS, "genre_cnn"]) == dict.fromkeys(MODELS, 1)
    memory = SharedMemory(keyless, enabled=True)
    model = TritonModel(lambda _version: get_card(WAVEFORM_MODEL), 1, keyless, memory)
    windows = np.zeros((1, *model.card.inputs[0].shape), np.float32)
    assert windows.nbytes > SMALLEST_BYTES, "otherwise it would not go into shared memory"
    answer = await model.infer({"samples": windows})
    assert answer["logits"].shape == (1, len(model.card.labels))
    assert await memory.arena() is None


def test_a_gateway_without_the_key_serves_and_changes_nothing(
    triton_server: TritonServer, tmp_path: Path
) -> None:
    with (
        serving(
            tmp_path / "log",
            runtime="triton",
            triton_url=triton_server.grpc_address,
            repository=triton_server.options.repository,
            admin_key="another administrator",
        ) as gateway,
        Bandstand(gateway.url, api_key="another administrator", retries=0) as client,
    ):
        models = {model.name: model.status for model in client.models().models}
        assert [models[name] for name in MODELS] == ["ready", "ready"]
        assert client.classify(tone(3.0), model_name=WAVEFORM_MODEL).primary_genre
        with pytest.raises(AuthenticationError, match="BANDSTAND_ADMIN_KEY") as caught:
            client.unload_model(WAVEFORM_MODEL)
        assert caught.value.error_type == "model_control_off"
    assert still_serves(triton_server)


def test_the_administrators_own_key_is_nowhere_in_the_servers_processes(
    triton_server: TritonServer,
) -> None:
    top = psutil.Process(triton_server.process.pid)
    for process in (top, *top.children(recursive=True)):
        assert not [part for part in process.cmdline() if ADMIN_KEY in part]
        assert ADMIN_KEY not in process.environ().values()


def test_without_an_administrators_key_each_start_draws_one(tmp_path: Path) -> None:
    repository: ModelRepository = embedded_repository(tmp_path / "models")
    ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
    options = ServerOptions(repository=repository.root, **ports)
    keys = set()
    for _ in range(2):
        with killed_at_the_end(options) as server:
            keys.add(server.control_key)
            assert any(model.ready for model in server.models())
            address = f"{server.http_url}/v2/repository/index"
            assert httpx.post(address, json={}).status_code == 403
    assert len(keys) == 2
