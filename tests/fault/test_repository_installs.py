"""The model repository under kills, races and full disks."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bandstand.errors import (
    ModelMismatchError,
    ModelNotFoundError,
    ModelNotInstalledError,
    RepositoryError,
)
from bandstand.models.repository import ModelRepository
from bandstand.models.staging import STAGING_PREFIX
from harness.cards import tiny_card

TINY = tiny_card()


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def visible(root: Path) -> set[str]:
    """Everything in the repository except the lock."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.name != ".lock"}


def test_versions_ascend_and_the_newest_is_served(
    repository: ModelRepository, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "exported.onnx"
    checkpoint.write_bytes(b"from a file")
    assert repository.install(TINY, {"model.onnx": b"one", "report.json": b'{"ok": 1}'}) == 1
    for expected in range(2, 12):
        assert repository.install(TINY, {"model.onnx": checkpoint}) == expected
    assert repository.versions("tiny") == tuple(range(1, 12))
    newest = repository.latest("tiny")
    assert newest.version == 11
    assert newest.model_path.read_bytes() == b"from a file"
    assert repository.report("tiny", 1) == {"ok": 1}


def test_a_removed_version_is_gone_and_its_number_stays_free_while_newer_ones_exist(
    repository: ModelRepository,
) -> None:
    for _ in range(3):
        repository.install(TINY, {"model.onnx": b"x"})
    repository.remove("tiny", 2)
    assert repository.versions("tiny") == (1, 3)
    assert visible(repository.root) == {
        "tiny",
        *(f"tiny/{v}{f}" for v in (1, 3) for f in ("", "/card.json", "/model.onnx")),
    }
    with pytest.raises(ModelNotInstalledError, match="installed: 1, 3"):
        repository.remove("tiny", 2)
    assert repository.install(TINY, {"model.onnx": b"x"}) == 4


def test_half_versions_and_foreign_directories_are_no_versions(repository: ModelRepository) -> None:
    for name in ("1", "2", "02", "x", ".staging-1"):
        (repository.root / "tiny" / name).mkdir(parents=True)
    (repository.root / "tiny" / "1" / "model.onnx").write_bytes(b"x")
    (repository.root / "tiny" / "02" / "model.onnx").write_bytes(b"x")
    assert repository.versions("tiny") == (1,)
    assert repository.install(TINY, {"model.onnx": b"x"}) == 3  # 2/ is someone's, and stays


def test_a_model_that_is_not_there_says_how_to_get_it(repository: ModelRepository) -> None:
    with pytest.raises(ModelNotInstalledError, match="bandstand models pull genre_wav2vec2"):
        repository.latest("genre_wav2vec2")
    with pytest.raises(ModelNotFoundError):
        repository.versions("../../etc")
    repository.install(TINY, {"model.onnx": b"x"})
    with pytest.raises(ModelMismatchError, match=r"report\.json"):
        repository.report("tiny", 1)


@pytest.mark.parametrize("files", [{}, {"model.onnx": b"", "../x": b""}, {"a/model.onnx": b""}])
def test_files_that_make_no_version_are_refused(
    repository: ModelRepository, files: dict[str, bytes | Path]
) -> None:
    with pytest.raises(ValueError, match=r"model\.onnx|plain file name"):
        repository.install(TINY, files)
    assert not repository.root.exists()


def test_a_missing_source_file_leaves_nothing(repository: ModelRepository, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"gone\.onnx"):
        repository.install(TINY, {"model.onnx": tmp_path / "gone.onnx"})
    assert visible(repository.root) == set()


def test_a_full_disk_leaves_the_versions_before_and_nothing_else(
    repository: ModelRepository,
) -> None:
    repository.install(TINY, {"model.onnx": b"before"})
    before = visible(repository.root)
    code = """
        import resource, signal, sys
        from pathlib import Path
        from bandstand.errors import RepositoryError
        from bandstand.models.repository import ModelRepository
        from harness.cards import tiny_card
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            ModelRepository(Path(sys.argv[1])).install(
                tiny_card(), {"report.json": b"{}", "model.onnx": bytes(200_000)}
            )
        except RepositoryError as error:
            print(error.message)
    """
    child = run_python(code, repository.root)
    out, err = child.communicate(timeout=60)
    assert "File too large" in out, err
    assert visible(repository.root) == before


def test_kill_nine_in_the_middle_leaves_no_half_version(repository: ModelRepository) -> None:
    code = """
        import sys
        from pathlib import Path
        from bandstand.models import staging
        from bandstand.models.repository import ModelRepository
        from harness.cards import tiny_card
        write = staging.write_durably
        def write_and_wait(path, content):
            write(path, content)
            if path.name == "model.onnx":
                print("written", flush=True)
                sys.stdin.read()
        staging.write_durably = write_and_wait
        ModelRepository(Path(sys.argv[1])).install(
            tiny_card(), {"model.onnx": bytes(1000), "report.json": b"{}"}
        )
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(repository.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        assert repository.versions("tiny") == ()  # while it is being written, too
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
    assert any(STAGING_PREFIX in path for path in visible(repository.root))
    assert repository.versions("tiny") == ()
    assert (
        repository.install(tiny_card("other"), {"model.onnx": b"x"}) == 1
    )  # the lock died with its holder
    assert visible(repository.root) == {
        "other",
        *(f"other/1{file}" for file in ("", "/card.json", "/model.onnx")),
    }


def test_concurrent_installs_get_different_versions(repository: ModelRepository) -> None:
    code = """
        import sys
        from pathlib import Path
        from bandstand.models.repository import ModelRepository
        from harness.cards import tiny_card
        for _ in range(5):
            print(ModelRepository(Path(sys.argv[1])).install(tiny_card(), {"model.onnx": b"x"}))
    """
    children = [run_python(code, repository.root) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        here = list(pool.map(lambda _: repository.install(TINY, {"model.onnx": b"x"}), range(10)))
    there = [int(line) for child in children for line in child.communicate(timeout=60)[0].split()]
    assert sorted(here + there) == list(range(1, 21))
    assert repository.versions("tiny") == tuple(range(1, 21))
