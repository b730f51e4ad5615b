"""Small models are exported by one process; one that dies takes only its own model with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest

from bandstand.errors import BandstandError, SourceError
from bandstand.models.card import Card, Source
from bandstand_cli.exporting import ExportProcesses
from harness.cards import get_card

CARD = get_card("genre_features")
SECONDS = 60.0


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANDSTAND_REPOSITORY", str(tmp_path / "models"))


def exporting() -> list[int]:
    """The processes that export for this one."""
    children = psutil.Process().children()
    return [child.pid for child in children if "bandstand_exporters" in child.cmdline()]


def missing(tmp_path: Path) -> Source:
    return CARD.source.model_copy(update={"uri": f"file:{tmp_path / 'missing'}"})


def refused(processes: ExportProcesses, card: Card, source: Source) -> list[int]:
    """Have an export refused, and return the processes that are left."""
    with pytest.raises(SourceError, match="missing"):
        processes.export(card, source, "fp32")
    return exporting()


def test_light_models_share_a_process_and_heavy_ones_have_their_own(tmp_path: Path) -> None:
    heavy = CARD.model_copy(update={"runner": "own"})
    with ExportProcesses() as processes:
        assert refused(processes, heavy, missing(tmp_path)) == []
        shared = refused(processes, CARD, missing(tmp_path))
        assert len(shared) == 1
        assert refused(processes, heavy, missing(tmp_path)) == shared
        assert refused(processes, CARD, missing(tmp_path)) == shared
    assert exporting() == []


def test_a_process_that_died_is_replaced(tmp_path: Path) -> None:
    with ExportProcesses() as processes:
        (first,) = refused(processes, CARD, missing(tmp_path))
        victim = psutil.Process(first)
        victim.kill()
        victim.wait(SECONDS)  # until none of its threads is left
        (second,) = refused(processes, CARD, missing(tmp_path))
        assert second != first


def test_a_model_whose_process_dies_is_the_only_one_that_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill_at_the_first_step() -> None:
        said, deadline = "", time.monotonic() + SECONDS
        while "opening the checkpoint" not in said and time.monotonic() < deadline:
            said += capfd.readouterr().err
            time.sleep(0.01)
        for pid in exporting():
            psutil.Process(pid).kill()

    with ExportProcesses() as processes:
        killer = threading.Thread(target=kill_at_the_first_step)
        killer.start()
        with pytest.raises(BandstandError, match="code -9"):
            processes.export(CARD, CARD.source, "fp32")
        killer.join()
        assert len(refused(processes, CARD, missing(tmp_path))) == 1
