"""Checkpoints that are damaged, foreign or dangerous are refused with a reason."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bandstand.errors import CheckpointError
from bandstand_training.checkpoint import (
    LARGEST_BYTES,
    METADATA_KEY,
    CheckpointMetadata,
    load_checkpoint,
    save_checkpoint,
)
from tests.genre_models import small_checkpoint

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(small_checkpoint(), tmp_path)


def write(
    path: Path, change: Callable[[Tensors], None] = lambda _: None, **metadata: object
) -> Path:
    """Write a safetensors file that differs from a good one in one thing."""
    good = small_checkpoint()
    tensors = {name: tensor.clone() for name, tensor in good.model.state_dict().items()}
    change(tensors)
    changed = CheckpointMetadata.model_construct(**{**dict(good.metadata), **metadata})
    save_file(tensors, path, {METADATA_KEY: changed.model_dump_json()})
    return path


def test_the_unchanged_file_loads(tmp_path: Path) -> None:
    assert load_checkpoint(write(tmp_path / "good.safetensors")).metadata.labels


@pytest.mark.parametrize("kept", [0.0, 1e-4, 0.01, 0.5, 0.9999])
def test_truncated_files_are_refused(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match="whole safetensors"):
        load_checkpoint(saved)


def test_a_longer_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"more")
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["model.pkl", "model.pth", "model.safetensors"])
@pytest.mark.parametrize("by", [pickle.dump, torch.save])
def test_pickles_are_refused_and_never_run(tmp_path: Path, name: str, by: Callable) -> None:
    path, sprung = tmp_path / name, tmp_path / "sprung"
    with path.open("wb") as file:
        by(Trap(sprung), file)
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(path)
    assert not sprung.exists()


def test_a_pickle_of_the_oldest_protocol_is_refused(tmp_path: Path) -> None:
    path, sprung = tmp_path / "model.safetensors", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=0))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not sprung.exists()


@pytest.mark.parametrize("labels", [("jazz", "metal"), ("a", "b", "c", "d")])
def test_a_wrong_label_count_is_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    path = write(tmp_path / "x.safetensors", labels=labels)
    with pytest.raises(CheckpointError, match=f"{len(labels)} labels"):
        load_checkpoint(path)


def test_a_label_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", labels=("jazz", "metal", "jazz"))
    with pytest.raises(CheckpointError, match="twice"):
        load_checkpoint(path)


def test_a_wrong_shape_is_refused_by_name(tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> None:
        tensors["members.0.3.weight"] = tensors["members.0.3.weight"][:, :100].contiguous()

    with pytest.raises(CheckpointError, match=r"members\.0\.3\.weight .*\[64, 100\]"):
        load_checkpoint(write(tmp_path / "x.safetensors", cut))


def test_a_wrong_dtype_is_refused(tmp_path: Path) -> None:
    def halve(tensors: Tensors) -> None:
        tensors["scaler.mean"] = tensors["scaler.mean"].half()

    with pytest.raises(CheckpointError, match="float16"):
        load_checkpoint(write(tmp_path / "x.safetensors", halve))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", lambda tensors: tensors.pop("scaler.turn"))
    with pytest.raises(CheckpointError, match=r"scaler\.turn"):
        load_checkpoint(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", lambda t: t["members.1.8.bias"].fill_(float("inf")))
    with pytest.raises(CheckpointError, match=r"members\.1\.8\.bias"):
        load_checkpoint(path)


def test_more_members_than_any_model_has_are_refused_before_they_are_made(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", members=10**9)
    with pytest.raises(CheckpointError, match="members"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {}, {METADATA_KEY: "no json"}, {METADATA_KEY: "{}"}])
def test_foreign_safetensors_are_refused(tmp_path: Path, metadata: dict | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"foreign\.safetensors"):
        load_checkpoint(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(CheckpointError, match="at most"):
        load_checkpoint(path)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="could not read"):
            load_checkpoint(path)
