"""`models list` and `models show` fit a terminal of 80 columns without truncated text."""

from __future__ import annotations

import io
from typing import get_args, get_type_hints

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from bandstand.models.card import Task
from bandstand_cli.app import app
from bandstand_cli.models import models_table
from bandstand_client.contract.models import ModelSummary, Quality
from harness.cards import load_cards

WIDTH = 80
LONGEST_NAME = "z" * 64
STATUSES = get_args(get_type_hints(ModelSummary)["status"])


def summary(name: str, task: str, status: str, version: int | None) -> ModelSummary:
    return ModelSummary(
        name=name,
        task=task,  # type: ignore[arg-type]
        architecture="feature_mlp",
        description="A long description. " * 20,
        status=status,  # type: ignore[arg-type]
        version=version,
        versions=() if version is None else (version,),
        runtime=None,
        labels=("jazz",),
        licence="MIT",
        trained_on="clips",
        quality=(Quality(protocol="p", accuracy=1.0, weighted_f1=1.0, examples=1),),
        install=None,
    )


def lines(content: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    console.print(content)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("task", get_args(Task))
def test_every_status_and_task_takes_one_line_beside_the_longest_card_name(
    status: str, task: str
) -> None:
    longest = max(load_cards(), key=len)
    header, line = lines(models_table([summary(longest, task, status, 1234)]))
    assert line.split() == [longest, task, status, "1234", "100.0", "%"]
    assert header.split() == ["model", "task", "status", "version", "accuracy"]
    assert len(line) <= WIDTH


def test_a_name_too_long_for_the_line_is_folded_and_not_cut() -> None:
    told = lines(models_table([summary(LONGEST_NAME, "instruments", "not_installed", None)]))
    assert "".join(told).count("z") == len(LONGEST_NAME)
    assert "not_installed" in told[1]
    assert max(map(len, told)) <= WIDTH


def run(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": str(WIDTH)})
    assert result.exit_code == 0
    return [line.rstrip() for line in result.stdout.splitlines()]


def test_the_list_is_a_line_a_model_and_names_the_command_that_says_more() -> None:
    header, *models, see_also = run("list")
    assert [line.split()[0] for line in models] == list(load_cards())
    assert "bandstand models show" in see_also
    assert max(map(len, [header, *models, see_also])) <= WIDTH


@pytest.mark.parametrize("name", load_cards())
def test_show_says_the_whole_description(name: str) -> None:
    told = run("show", name)
    assert max(map(len, told)) <= WIDTH
    assert load_cards()[name].description.split() == _value_of("description", told)


def _value_of(title: str, told: list[str]) -> list[str]:
    """Return the words beside a title, and those of the lines below that have no title."""
    start = next(i for i, line in enumerate(told) if line.startswith(title))
    words = told[start].removeprefix(title).split()
    for line in told[start + 1 :]:
        if not line.startswith(" "):
            break
        words += line.split()
    return words
