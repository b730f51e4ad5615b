"""docs/models.md is up to date with the cards, the results and the notes on models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bandstand.pipelines.genre import DEFAULT_MODEL
from benchmarks.models.page import COMMAND, NOTES, PAGE, render
from benchmarks.models.results import read_results, write_results
from harness import PROJECT_ROOT
from harness.cards import load_cards

CARDS = load_cards()
RESULTS = read_results()


def test_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(CARDS, RESULTS), f"run: {COMMAND} --page-only"


@pytest.mark.parametrize("name", CARDS)
def test_something_is_written_about_the_model(name: str) -> None:
    assert (NOTES / f"{name}.md").read_text(encoding="utf-8").strip()


def test_nothing_is_written_about_models_that_are_gone() -> None:
    assert {path.stem for path in NOTES.iterdir()} | set(RESULTS) <= set(CARDS)


def test_models_that_were_not_measured_say_how_to_get_them() -> None:
    page = render(CARDS, {})
    for name in CARDS:
        assert f"| {name} | `bandstand models pull {name}` | — |" in page


def test_random_weights_are_not_said_to_know_anything() -> None:
    for result in RESULTS.values():
        if any(export.weights != "card" for export in result.exports):
            assert not result.answers


def test_command_adds_what_is_installed_and_keeps_the_rest(tmp_path: Path) -> None:
    results, page = tmp_path / "models.json", tmp_path / "models.md"
    kept = {name: result for name, result in RESULTS.items() if name != DEFAULT_MODEL}
    write_results(kept, results)
    repository = PROJECT_ROOT / "model_repository"  # holds what is embedded, at least
    command = [sys.executable, "-m", "benchmarks.models", "--rounds", "1"]
    command += ["--only", DEFAULT_MODEL, "--repository", str(repository)]
    command += ["--recordings", str(tmp_path), "--results", str(results), "--page", str(page)]
    subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    found = read_results(results)
    assert {name: found[name] for name in kept} == kept
    assert found[DEFAULT_MODEL].exports[0].speed.milliseconds > 0
    assert [answer.recording for answer in found[DEFAULT_MODEL].answers] == ["silence"]
    assert page.read_text(encoding="utf-8") == render(CARDS, found)
