"""`--checkpoint` may name a file where the card has a folder, and a folder where it has a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bandstand.models.card import Source
from bandstand.models.source import SourceCache, moved, source_sha256

FOLDER = Source(
    uri="hf://owner/name",
    files=("config.json", "model.safetensors"),
    revision="main",
    licence="MIT",
    trained_on="noise",
)
FILE = FOLDER.model_copy(update={"uri": "hf://owner/name/net.pt", "files": ()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in {"weights.pth": 9, "config.json": 2, ".gitattributes": 99}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "examples").mkdir()
    return tmp_path


@pytest.mark.parametrize("source", [FOLDER, FILE])
def test_a_folder_with_other_files_is_taken_with_those_it_has(source: Source, folder: Path) -> None:
    found = moved(source, f"file:{folder}")
    assert found.files == ("config.json", "weights.pth")
    promised = found.model_copy(update={"sha256": source_sha256(found, folder)})
    assert SourceCache(folder / "cache").resolve(promised) == folder


def test_a_folder_with_the_cards_files_is_taken_with_no_others(folder: Path) -> None:
    (folder / "model.safetensors").touch()
    assert moved(FOLDER, f"file:{folder}").files == FOLDER.files


def test_an_empty_folder_still_lacks_the_cards_files(tmp_path: Path) -> None:
    assert moved(FOLDER, f"file:{tmp_path}").files == FOLDER.files


@pytest.mark.parametrize("source", [FOLDER, FILE])
def test_a_file_is_one_file(source: Source, folder: Path) -> None:
    assert moved(source, f"file:{folder / 'weights.pth'}").files == ()
    assert moved(source, "hf://other/repo/best.keras").files == ()


def test_a_name_on_the_hub_without_an_ending_is_a_folder() -> None:
    assert moved(FOLDER, "hf://other/repo").files == FOLDER.files
    assert moved(FOLDER, "hf://other/repo-v1.5").files == FOLDER.files
    assert moved(FOLDER, "hf://other/repo/checkpoint").files == FOLDER.files
    assert moved(FOLDER, "hf://other/repo", "abc").revision == "abc"
