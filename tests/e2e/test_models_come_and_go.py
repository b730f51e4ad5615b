"""A model is exported, used and removed by the command line, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

NAME = "genre_features"


def test_export_use_remove(tmp_path: Path, samples_dir: Path) -> None:
    environment = {**os.environ, "BANDSTAND_REPOSITORY": str(tmp_path / "models")}

    def bandstand(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bandstand_cli", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )

    exported = bandstand("models", "export", NAME)
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith(f"installed {NAME} version 1 (0.2 MB, fp32): ")
    assert "proving it against its source" in exported.stderr
    shown = json.loads(bandstand("models", "show", NAME, "--json").stdout)
    assert (shown["status"], shown["report"]["precision"]) == ("installed", "fp32")

    sample = next(samples_dir.glob("*.ogg"))
    assert bandstand("classify", str(sample), "--json").returncode == 0
    assert bandstand("models", "pull", NAME).stdout == f"{NAME} version 1 is installed already\n"

    assert bandstand("models", "remove", NAME).stdout == f"removed {NAME} version 1\n"
    after = bandstand("classify", str(sample))
    assert after.returncode == 1
    assert "[model_not_installed]" in after.stderr
