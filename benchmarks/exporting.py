"""Exports into a benchmark's own repository, each in a process of its own, as users do them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.models.source import source_sha256
from bandstand.settings import get_settings
from harness import PROJECT_ROOT


def real_weights(card: Card) -> Path:
    """Return where the data folder has a card's checkpoint.

    Raises:
        FileNotFoundError: it has not; `BANDSTAND_DATA_DIR` names the data folder.
    """
    directory = get_settings().data_dir / "weights"
    for path in sorted(directory.glob(f"*{Path(card.source.uri).suffix}")):
        right_kind = path.is_dir() if card.source.files else path.is_file()
        if right_kind and source_sha256(card.source, path) == card.source.sha256:
            return path
    raise FileNotFoundError(f"no checkpoint of {card.name} in {directory} (BANDSTAND_DATA_DIR)")


def exported(name: str, repository: ModelRepository, checkpoint: Sequence[str] = ()) -> float:
    """Run `bandstand models export`, and return the CPU seconds of all its processes.

    Args:
        name: of the card, or `--all`.
        repository: gets the model.
        checkpoint: further arguments, where it is not the data folder's.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on standard error.
    """
    command = [sys.executable, "-m", "bandstand_cli", "models", "export", name, *checkpoint]
    environment = {**os.environ, "BANDSTAND_REPOSITORY": str(repository.root)}
    before = _cpu_seconds_of_children()
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, stdout=sys.stderr, check=True)
    return _cpu_seconds_of_children() - before


def _cpu_seconds_of_children() -> float:
    """Return those of the processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
