"""Models of one process: loaded when first asked, changed and unloaded each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from bandstand.errors import ModelMismatchError, ModelNotInstalledError
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.installed import MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.runners.local_pool import LocalPool
from bandstand.settings import Settings
from harness.small_graphs import card, mlp

ROW = {"x": np.zeros((1, 24), np.float32)}


def install(repository: ModelRepository, name: str, graph: Path | bytes) -> int:
    made: Card = card((24,), name=name)
    return repository.install(made, {MODEL_FILE: graph})


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return mlp(tmp_path / "graph.onnx")


@pytest.fixture
async def pool(tmp_path: Path, graph: Path) -> AsyncIterator[LocalPool]:
    """Two models, one of them broken."""
    settings = Settings(repository=tmp_path / "models", runtime="onnxruntime", threads_per_runner=1)
    catalogue = Catalogue.from_settings(settings)
    install(catalogue.repository, "good", graph)
    install(catalogue.repository, "bad", b"no graph")
    pool = LocalPool(settings, catalogue)
    yield pool
    await pool.aclose()


def repository_of(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


async def test_looking_a_model_up_does_not_load_it(pool: LocalPool) -> None:
    model = pool["good"]
    assert {"good", "bad"} <= set(pool)
    assert "unknown" not in pool
    assert (model.version, model.runtime, dict(pool.served)) == (1, None, {})
    answers = await asyncio.gather(model.infer(ROW), pool["good"].infer(ROW))
    np.testing.assert_array_equal(answers[0]["logits"], answers[1]["logits"])
    assert list(pool.served) == ["good"]
    assert (model.runtime or "").startswith("onnxruntime")


async def test_who_looked_a_model_up_before_a_change_is_answered_by_the_new_version(
    pool: LocalPool, tmp_path: Path, graph: Path
) -> None:
    model = pool["good"]
    await pool.load("good")
    install(repository_of(tmp_path), "good", graph)
    await pool.load("good")
    await model.infer(ROW)
    assert model.version == 2
    await pool.load("good", 1)
    assert (pool.served["good"].version, repository_of(tmp_path).pinned("good")) == (1, 1)


async def test_an_unloaded_model_is_not_loaded_by_the_next_question(pool: LocalPool) -> None:
    model = pool["good"]
    await model.infer(ROW)
    await pool.unload("good")
    assert "good" not in pool
    with pytest.raises(ModelNotInstalledError):
        await model.infer(ROW)
    with pytest.raises(ModelNotInstalledError, match="is not loaded"):
        await pool.unload("good")
    await pool.load("good")
    assert (await model.infer(ROW))["logits"].shape == (1, 4)


async def test_one_that_cannot_be_loaded_is_kept_as_a_failure_until_it_can(
    pool: LocalPool, tmp_path: Path, graph: Path
) -> None:
    await pool.load_installed(["bad", "good"])
    assert (set(pool.served), set(pool.failures)) == ({"good"}, {"bad"})
    with pytest.raises(ModelMismatchError):
        await pool.load("bad")
    install(repository_of(tmp_path), "bad", graph)
    await pool.load("bad")
    assert (set(pool.served), set(pool.failures)) == ({"good", "bad"}, set())


async def test_a_version_that_cannot_be_loaded_leaves_the_one_before(
    pool: LocalPool, tmp_path: Path
) -> None:
    await pool.load("good")
    install(repository_of(tmp_path), "good", b"no graph")
    with pytest.raises(ModelMismatchError):
        await pool.load("good")
    assert pool.served["good"].version == 1
    assert repository_of(tmp_path).pinned("good") is None
