"""The embedded models are a layer below the user's repository, and are never changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bandstand.errors import ModelInUseError, ModelNotInstalledError
from bandstand.models.repository import ModelRepository
from bandstand.places import EMBEDDED_REPOSITORY
from harness.cards import get_card, tiny_card

EMBEDDED = "genre_features"
CARD = get_card(EMBEDDED)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """A copy of the embedded models, that a write would show in."""
    shutil.copytree(EMBEDDED_REPOSITORY / EMBEDDED, tmp_path / "below" / EMBEDDED)
    return tmp_path / "below"


@pytest.fixture
def repository(tmp_path: Path, below: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "root", below)


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_what_is_embedded_is_served_from_a_root_that_does_not_exist(
    repository: ModelRepository,
) -> None:
    assert repository.names() == (EMBEDDED,)
    assert repository.serving(EMBEDDED).card() == CARD
    assert repository.report(EMBEDDED, 1)["card"] == EMBEDDED
    assert not repository.root.exists()


def test_a_new_version_gets_a_number_above_those_below_and_hides_none(
    repository: ModelRepository, below: Path
) -> None:
    before = contents(below)
    assert repository.install(CARD, {"model.onnx": b"mine"}) == 2
    assert repository.versions(EMBEDDED) == (1, 2)
    assert repository.serving(EMBEDDED).folder == repository.root / EMBEDDED / "2"
    assert repository.installed(EMBEDDED, 1).folder == below / EMBEDDED / "1"
    assert repository.pin(EMBEDDED, 1).folder == below / EMBEDDED / "1"
    assert repository.serving(EMBEDDED).version == 1
    assert contents(below) == before


def test_the_same_number_is_taken_from_the_root(repository: ModelRepository) -> None:
    ModelRepository(repository.root).install(CARD, {"model.onnx": b"mine"})
    assert repository.versions(EMBEDDED) == (1,)
    assert repository.serving(EMBEDDED).model_path.read_bytes() == b"mine"


def test_a_pin_is_taken_back_where_nothing_was_installed(repository: ModelRepository) -> None:
    repository.pin(EMBEDDED, 1)
    assert repository.pinned(EMBEDDED) == 1
    assert repository.pin(EMBEDDED, None).version == 1
    assert repository.pinned(EMBEDDED) is None


def test_what_comes_with_bandstand_cannot_be_removed(
    repository: ModelRepository, below: Path
) -> None:
    before = contents(below)
    repository.install(CARD, {"model.onnx": b"mine"})
    assert repository.own_versions(EMBEDDED) == (2,)
    with pytest.raises(ModelInUseError, match="comes with Bandstand"):
        repository.remove(EMBEDDED, 1)
    repository.remove(EMBEDDED, 2)
    assert repository.versions(EMBEDDED) == (1,)
    with pytest.raises(ModelNotInstalledError):
        repository.remove(EMBEDDED, 2)
    assert contents(below) == before


def test_a_copied_version_is_whole_and_made_once(repository: ModelRepository, below: Path) -> None:
    assert repository.copy_up(EMBEDDED) == (1,)
    copied = {f"{EMBEDDED}/1/{p.name}" for p in (below / EMBEDDED / "1").iterdir()}
    assert contents(repository.root) == {
        path: content for path, content in contents(below).items() if path in copied
    }
    (repository.root / EMBEDDED / "1" / "model.onnx").write_bytes(b"changed")
    assert repository.copy_up(EMBEDDED) == ()
    assert (repository.root / EMBEDDED / "1" / "model.onnx").read_bytes() == b"changed"
    assert repository.copy_up("tiny") == ()
    repository.remove(EMBEDDED, 1)  # the copy
    assert repository.serving(EMBEDDED).folder.is_relative_to(below)


def test_what_else_lies_below_was_installed_by_somebody(
    repository: ModelRepository, below: Path
) -> None:
    ModelRepository(below).install(tiny_card(), {"model.onnx": b"x"})
    assert repository.names() == (EMBEDDED,)
    assert repository.versions("tiny") == ()
    assert repository.install(tiny_card(), {"model.onnx": b"x"}) == 1
    assert repository.own_versions("tiny") == (1,)


def test_a_checkouts_own_repository_is_one_layer(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(EMBEDDED_REPOSITORY)
    for same in (EMBEDDED_REPOSITORY, tmp_path / "link"):
        assert ModelRepository.over_embedded(same).below is None
    assert ModelRepository.over_embedded(tmp_path).below == EMBEDDED_REPOSITORY
