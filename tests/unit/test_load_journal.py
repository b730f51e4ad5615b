"""A version that ends the process that loads it is known to the process that comes next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bandstand.errors import ModelMismatchError
from bandstand.models.installed import InstalledModel
from bandstand.runners.load_journal import LoadJournal

ENDS = """\
import os, sys
from pathlib import Path
from bandstand.models.installed import InstalledModel
from bandstand.runners.load_journal import LoadJournal
with LoadJournal(Path(sys.argv[1])).loading(InstalledModel("heavy", 3, Path("anywhere"))):
    os._exit(1)
"""
HEAVY = InstalledModel("heavy", 3, Path("anywhere"))


def end_a_process(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS, str(folder)], check=False)


def test_the_second_fatal_load_is_the_last(tmp_path: Path) -> None:
    journal = LoadJournal(tmp_path)
    assert journal.suspects() == frozenset()
    end_a_process(tmp_path)
    journal.check(HEAVY)
    assert journal.suspects() == {"heavy"}
    end_a_process(tmp_path)
    with pytest.raises(ModelMismatchError, match="heavy version 3 is not loaded: the last 2 times"):
        journal.check(HEAVY)
    journal.check(InstalledModel("heavy", 4, Path("anywhere")))  # another version is tried


def test_a_load_that_the_process_survives_clears_it(tmp_path: Path) -> None:
    journal = LoadJournal(tmp_path)
    end_a_process(tmp_path)
    end_a_process(tmp_path)
    with pytest.raises(OSError, match="no file"), journal.loading(HEAVY):
        raise OSError("no file")
    journal.check(HEAVY)
    assert journal.suspects() == frozenset()


def test_without_a_folder_nothing_is_remembered(tmp_path: Path) -> None:
    journal = LoadJournal(None)
    with journal.loading(HEAVY):
        assert journal.suspects() == frozenset()
    journal.check(HEAVY)
    with LoadJournal(tmp_path / "removed").loading(HEAVY):
        pass
