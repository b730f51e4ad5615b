"""A card's response cache and rate limiter resources work on a Triton server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from tritonclient import grpc

from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.triton.config import CONFIG_FILE, LABEL_FILE, card_config, to_text
from bandstand.triton.server import TritonServer
from harness.small_graphs import LABELS, card, save_graph, weight
from tests.triton_serving import triton_serving

WIDTH = 64
REQUESTS = 40


def write_model(root: Path, described: Card, seed: int) -> None:
    """Put a small model with the config of its card into a repository."""
    folder = root / described.name / "1"
    folder.mkdir(parents=True)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["logits"], transB=1)]
    save_graph(folder / MODEL_FILE, nodes, {"w": weight(seed, len(LABELS), WIDTH)}, (WIDTH,))
    (folder.parent / CONFIG_FILE).write_text(to_text(card_config(described)))
    (folder.parent / LABEL_FILE).write_text("".join(f"{label}\n" for label in LABELS))


def infer(client: Any, model: str, row: NDArray[np.float32]) -> NDArray[np.float32]:
    tensor = grpc.InferInput("x", [1, WIDTH], "FP32")
    tensor.set_data_from_numpy(row[None])
    logits: NDArray[np.float32] = client.infer(model, [tensor]).as_numpy("logits")
    return logits


def rows() -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(size=(REQUESTS, WIDTH)).astype(np.float32)


def statistics(server: TritonServer, model: str) -> Any:
    (found,) = (
        grpc.InferenceServerClient(server.grpc_address)
        .get_inference_statistics(model, as_json=False)
        .model_stats
    )
    return found


def test_equal_windows_come_from_the_cache_of_the_model_that_asks_for_one(tmp_path: Path) -> None:
    for name, kept in (("with_cache", True), ("without_cache", False)):
        write_model(tmp_path, card((WIDTH,), name=name, triton={"response_cache": kept}), seed=1)
    with triton_serving(ModelRepository(tmp_path), response_cache_bytes=1 << 20) as server:
        client = grpc.InferenceServerClient(server.grpc_address)
        executed = {}
        for name in ("with_cache", "without_cache"):
            before = statistics(server, name).inference_count
            first, again = (infer(client, name, rows()[0]) for _ in range(2))
            infer(client, name, rows()[1])
            np.testing.assert_array_equal(again, first)
            executed[name] = statistics(server, name).inference_count - before
        hits = statistics(server, "with_cache").inference_stats.cache_hit.count
    assert executed == {"with_cache": 2, "without_cache": 3}
    assert hits == 1


def test_models_that_share_a_device_are_all_answered(tmp_path: Path) -> None:
    names = ("one", "other")
    for seed, name in enumerate(names):
        limited = card((WIDTH,), name=name, triton={"resources": {"device": 1}, "instances": 2})
        write_model(tmp_path, limited, seed)
    expected = {
        name: rows() @ weight(seed, len(LABELS), WIDTH).T for seed, name in enumerate(names)
    }
    with triton_serving(ModelRepository(tmp_path), rate_limit=True) as server:
        warm_ups = {name: statistics(server, name).inference_stats.success.count for name in names}

        def ask(number: int) -> None:
            client = grpc.InferenceServerClient(server.grpc_address)
            for name in names:
                found = infer(client, name, rows()[number])
                np.testing.assert_allclose(found[0], expected[name][number], rtol=1e-4, atol=1e-4)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(REQUESTS)))
        for name in names:
            answered = statistics(server, name).inference_stats
            assert answered.success.count - warm_ups[name] == REQUESTS
            assert answered.fail.count == 0
