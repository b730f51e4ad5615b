"""The command line exports, uses and removes a model, each in a separate process."""

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
    assert exported.stdout.startswith(f"installed {NAME} version 2 (0.2 MB, fp32): ")
    assert "proving it against its source" in exported.stderr
    shown = json.loads(bandstand("models", "show", NAME, "--json").stdout)
    assert (shown["status"], shown["report"]["precision"]) == ("installed", "fp32")

    sample = next(samples_dir.glob("*.ogg"))

    def version() -> int:
        answer = bandstand("classify", str(sample), "--json")
        assert answer.returncode == 0, answer.stderr
        found: int = json.loads(answer.stdout)["members"][0]["version"]
        return found

    assert version() == 2
    assert bandstand("models", "pull", NAME).stdout == f"{NAME} version 2 is installed already\n"

    removed = bandstand("models", "remove", NAME).stdout
    assert removed == f"removed {NAME} version 2\nversion 1 comes with Bandstand and stays\n"
    assert version() == 1
    again = bandstand("models", "remove", NAME)
    assert (again.returncode, "[model_in_use]" in again.stderr) == (1, True)
    missing = bandstand("classify", str(sample), "--model", "genre_wav2vec2")
    assert missing.returncode == 1
    assert "bandstand models pull genre_wav2vec2" in missing.stderr
