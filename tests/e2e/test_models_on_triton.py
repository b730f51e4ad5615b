"""A model on a real Triton answers as in process: split, in shared memory, with the same errors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bandstand.errors import (
    DeadlineExceededError,
    ModelMismatchError,
    ModelNotInstalledError,
    NonFiniteOutputError,
    UnavailableError,
    UnusableRequestError,
)
from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.runners.onnx import OnnxRunner
from bandstand.runners.triton import TritonModel
from bandstand.runners.triton_connection import TritonConnection
from bandstand.runners.triton_memory import SMALLEST_BYTES, SharedMemory
from bandstand.triton.config import CONFIG_FILE, card_config, to_text
from bandstand.triton.server import TritonServer
from bandstand_exporters.weights import move_weights
from harness.serving import free_port
from harness.small_graphs import LABELS, card, mlp, save_graph, through_denormals, weight
from tests.triton_serving import halted, triton_serving

SHARED = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory is)
SAMPLES = SMALLEST_BYTES // 4
MLP = card((24,), name="small_mlp", batch={"max_size": 4})
TWO_FILES = card((24,), name="two_files", batch={"max_size": 4})
WIDE = card((SAMPLES,), name="wide", batch={"max_size": 4})
LOGARITHM = card((4,), name="logarithm")
DENORMAL = card((4,), name="denormal")


def wide(path: Path) -> Path:
    """A long input, folded to 64 values, to four logits."""
    nodes = [
        helper.make_node("Reshape", ["x", "folds"], ["f"]),
        helper.make_node("ReduceMean", ["f", "two"], ["m"], keepdims=0),
        helper.make_node("Gemm", ["m", "w"], ["logits"], transB=1),
    ]
    weights = {
        "folds": np.array([-1, 64, SAMPLES // 64], np.int64),
        "two": np.array([2], np.int64),
        "w": weight(5, len(LABELS), 64),
    }
    return save_graph(path, nodes, weights, (SAMPLES,))


def logarithm(path: Path) -> Path:
    """NaN for what is negative."""
    return save_graph(path, [helper.make_node("Log", ["x"], ["logits"])], {}, (4,))


def mlp_beside_its_weights(path: Path) -> Path:
    """The graph as an export of two graphs has it: its weights are in a file beside it."""
    move_weights(mlp(path))
    return path


GRAPHS = {
    "small_mlp": (MLP, mlp),
    "two_files": (TWO_FILES, mlp_beside_its_weights),
    "wide": (WIDE, wide),
    "logarithm": (LOGARITHM, logarithm),
    "denormal": (DENORMAL, through_denormals),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    root = tmp_path_factory.mktemp("models")
    for name, (model_card, write) in GRAPHS.items():
        (root / name / "1").mkdir(parents=True)
        write(root / name / "1" / "model.onnx")
        unlabelled = model_card.model_copy(update={"labels": ()})
        (root / name / CONFIG_FILE).write_text(to_text(card_config(unlabelled)))
    return ModelRepository(root)


@pytest.fixture(scope="module")
def triton(repository: ModelRepository) -> Iterator[TritonServer]:
    with triton_serving(repository) as running:
        yield running


@pytest.fixture
async def connection(triton: TritonServer) -> AsyncIterator[TritonConnection]:
    opened = TritonConnection(
        triton.grpc_address, channels=2, deadline_seconds=30, control_key=triton.control_key
    )
    yield opened
    await opened.aclose()


@pytest.fixture
async def memory(connection: TritonConnection) -> AsyncIterator[SharedMemory]:
    shared = SharedMemory(connection, enabled=True)
    yield shared
    await shared.aclose()
    for region in await connection.regions():
        # Left on purpose only after a call that was cut off and repeated: Triton may still read it.
        assert shared._has_dropped_calls, region
        await connection.unregister(region)
    assert named() == []


def model(model_card: Card, connection: TritonConnection, memory: SharedMemory) -> TritonModel:
    return TritonModel(lambda _version: model_card, 0, connection, memory)


def named() -> list[Path]:
    """Our regions that still have a name."""
    return list(SHARED.glob("bandstand-*"))


def dead_process() -> int:
    code = "import os; print(os.getpid())"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def rows(model_card: Card, count: int) -> dict[str, np.ndarray]:
    shape = (count, *model_card.inputs[0].shape)
    return {"x": np.random.default_rng(count).standard_normal(shape).astype(np.float32)}


def in_process(repository: ModelRepository, name: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    path = repository.root / name / "1" / "model.onnx"
    return OnnxRunner(GRAPHS[name][0], path, threads=1).run(inputs)["logits"]


@pytest.mark.parametrize("name", ["small_mlp", "two_files", "wide"])
@pytest.mark.parametrize("count", [1, 4, 5, 19])
async def test_answers_equal_those_in_process_however_many_rows(
    name: str,
    count: int,
    repository: ModelRepository,
    connection: TritonConnection,
    memory: SharedMemory,
) -> None:
    model_card = GRAPHS[name][0]
    asked = model(model_card, connection, memory)
    inputs = rows(model_card, count)
    answer = (await asked.infer(inputs))["logits"]
    np.testing.assert_allclose(answer, in_process(repository, name, inputs), 1e-4, 1e-5)
    assert answer.flags.writeable
    assert asked.version == 1


async def test_large_inputs_go_through_memory_that_has_no_name(
    repository: ModelRepository, connection: TritonConnection, memory: SharedMemory
) -> None:
    asked = model(WIDE, connection, memory)
    calls = [rows(WIDE, count) for count in (1, 2, 3, 4) * 8]
    answers = await asyncio.gather(*(asked.infer(inputs) for inputs in calls))
    for inputs, answer in zip(calls, answers, strict=True):
        expected = in_process(repository, "wide", inputs)
        np.testing.assert_allclose(answer["logits"], expected, 1e-4, 1e-5)
    assert len(await connection.regions()) == 1
    assert named() == []


async def test_memory_that_the_server_forgot_is_registered_anew(
    repository: ModelRepository, connection: TritonConnection, memory: SharedMemory
) -> None:
    asked = model(WIDE, connection, memory)
    inputs = rows(WIDE, 2)
    first = await asked.infer(inputs)
    (before,) = await connection.regions()
    await connection.unregister(before)
    np.testing.assert_array_equal((await asked.infer(inputs))["logits"], first["logits"])
    await asked.infer(inputs)
    (after,) = await connection.regions()
    assert after != before


async def test_a_dropped_call_spoils_no_other_answer(
    repository: ModelRepository, connection: TritonConnection, memory: SharedMemory
) -> None:
    asked = model(WIDE, connection, memory)
    dropped = [asyncio.create_task(asked.infer(rows(WIDE, 4))) for _ in range(8)]
    await asyncio.sleep(0.01)
    for task in dropped:
        task.cancel()
    inputs = rows(WIDE, 3)
    answer = (await asked.infer(inputs))["logits"]
    np.testing.assert_allclose(answer, in_process(repository, "wide", inputs), 1e-4, 1e-5)
    await asyncio.gather(*dropped, return_exceptions=True)
    # The server may still read what was dropped: it keeps the region, as after a crash of ours.
    await memory.aclose()
    for name in await connection.regions():
        await connection.unregister(name)


async def test_refusals_are_those_of_a_runner_in_process(
    repository: ModelRepository, connection: TritonConnection, memory: SharedMemory
) -> None:
    def of(model_card: Card) -> TritonModel:
        return model(model_card, connection, memory)

    with pytest.raises(UnusableRequestError, match="small_mlp: input 'x'"):
        await of(MLP).infer({"x": np.zeros((1, 23), np.float32)})
    with pytest.raises(NonFiniteOutputError):
        await of(LOGARITHM).infer({"x": -np.ones((1, 4), np.float32)})
    with pytest.raises(ModelNotInstalledError, match="absent"):
        await of(card((24,), name="absent")).infer(rows(MLP, 1))
    three = [{"name": "logits", "shape": (3,)}]
    with pytest.raises(ModelMismatchError, match="in the card"):
        await of(card((24,), name="small_mlp", labels=("a", "b", "c"), outputs=three)).infer(
            rows(MLP, 1)
        )


async def test_an_unloaded_model_is_not_installed_and_a_loaded_one_answers(
    repository: ModelRepository, connection: TritonConnection, memory: SharedMemory
) -> None:
    asked = model(MLP, connection, memory)
    await connection.unload("small_mlp")
    with pytest.raises(ModelNotInstalledError):
        await asked.infer(rows(MLP, 1))
    await connection.load("small_mlp")
    assert (await connection.ready_versions(GRAPHS))["small_mlp"] == 1
    assert (await asked.infer(rows(MLP, 1)))["logits"].shape == (1, 4)
    with pytest.raises(ModelMismatchError):
        await connection.load("absent")


async def test_a_server_that_hangs_is_given_up_on_time(triton: TritonServer) -> None:
    opened = TritonConnection(
        triton.grpc_address, channels=1, deadline_seconds=0.5, control_key=triton.control_key
    )
    asked = model(MLP, opened, SharedMemory(opened, enabled=True))
    await asked.infer(rows(MLP, 1))
    with halted(triton), pytest.raises(DeadlineExceededError):
        await asked.infer(rows(MLP, 1))
    assert (await asked.infer(rows(MLP, 2)))["logits"].shape == (2, 4)
    await opened.aclose()


@pytest.mark.parametrize("model_card", [MLP, WIDE], ids=lambda model_card: model_card.name)
async def test_no_server_is_unavailable_and_says_when_to_ask_again(model_card: Card) -> None:
    opened = TritonConnection(f"127.0.0.1:{free_port()}", channels=1, deadline_seconds=30)
    asked = model(model_card, opened, SharedMemory(opened, enabled=True))
    with pytest.raises(UnavailableError) as caught:
        await asked.infer(rows(model_card, 1))
    assert caught.value.retry_after
    await opened.aclose()


async def test_regions_of_dead_processes_are_let_go_and_no_others(
    connection: TritonConnection, memory: SharedMemory
) -> None:
    first = SharedMemory(connection, enabled=True)
    await model(WIDE, connection, first).infer(rows(WIDE, 1))
    (own,) = await connection.regions()
    namespace = own.split("-")[1]
    dead = dead_process()
    left, elsewhere = f"bandstand-{namespace}-{dead}-x", f"bandstand-1-{dead}-x"
    for name in (left, elsewhere):
        path = SHARED / name
        path.write_bytes(bytes(4096))
        try:
            await connection.register(name, f"/{name}", 4096)
        finally:
            path.unlink()
    await model(WIDE, connection, memory).infer(rows(WIDE, 1))
    regions = await connection.regions()
    assert left not in regions
    assert {own, elsewhere} < set(regions)
    await connection.unregister(elsewhere)
    await first.aclose()


async def test_denormal_numbers_are_zero_in_our_backend_too(
    connection: TritonConnection, memory: SharedMemory
) -> None:
    answer = await model(DENORMAL, connection, memory).infer({"x": np.ones((2, 4), np.float32)})
    np.testing.assert_array_equal(answer["logits"], np.zeros((2, 4)))
