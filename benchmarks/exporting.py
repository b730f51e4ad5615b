"""Exports into a benchmark's own repository, each in a process of its own, as users do them."""

from __future__ import annotations

import os
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


def exported(name: str, repository: ModelRepository, checkpoint: Sequence[str] = ()) -> None:
    """Run `bandstand models export`.

    Args:
        name: of the card.
        repository: gets the model.
        checkpoint: further arguments, where it is not the data folder's.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on standard error.
    """
    command = [sys.executable, "-m", "bandstand_cli", "models", "export", name, *checkpoint]
    environment = {**os.environ, "BANDSTAND_REPOSITORY": str(repository.root)}
    subprocess.run(command, cwd=PROJECT_ROOT, env=environment, stdout=sys.stderr, check=True)
