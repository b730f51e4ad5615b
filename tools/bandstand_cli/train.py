"""The commands that fit models: `train table`, `train genre_features`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bandstand.models.card import Name
from bandstand.models.source import sha256_of
from bandstand_cli.display import show
from bandstand_training.extra import check_can_train

if TYPE_CHECKING:
    from bandstand_training.fit import FitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """The options of `train table`; see its help."""

    table: Path
    labels: Path | None
    label_column: str
    group_column: str | None
    name: str
    out: Path
    folds: int
    epochs: int
    seed: int


def train_table(options: TableOptions) -> None:
    """Fit a model to a user's table, print its quality, and write it.

    Raises:
        typer.BadParameter: the name is not allowed for a card.
        BandstandError: the table cannot be used, or training's packages are missing.
        OSError: the folder is not writable, or full.
    """
    _check_name(options.name)
    check_can_train()
    from bandstand_cli.train_display import next_steps, report_of, table_summary
    from bandstand_training.checkpoint import save_checkpoint
    from bandstand_training.own_model import train_on_table
    from bandstand_training.table import read_table

    table = read_table(
        options.table,
        labels=options.labels,
        label_column=options.label_column,
        group_column=options.group_column,
    )
    show(table_summary(options.table, table))
    fits = options.folds + 1
    with _progress(f"{fits} fits", fits * options.epochs) as step:
        trained = train_on_table(
            table,
            _settings(options.epochs, options.seed),
            name=options.name,
            fitted_to=f"{options.table.name}: {len(table.clips)} clips, the labels by "
            f"{(options.labels or options.table).name}",
            folds=options.folds,
            on_epoch=step,
        )
    show(report_of(trained, table))
    path = save_checkpoint(trained.checkpoint, options.out)
    typer.echo(next_steps(path, len(table.clips)))


def train_genre_features(
    table: Path | None,
    splits: Path | None,
    out: Path | None,
    *,
    epochs: int,
    seed: int,
    write: bool,
) -> None:
    """Fit the embedded model again; print the new values of its card.

    Raises:
        BandstandError: the table or its lists cannot be used, or training's packages are missing.
        OSError: the folder is not writable, or full.
    """
    check_can_train()
    from bandstand_training.checkpoint import save_checkpoint
    from bandstand_training.genre_features import (
        DEFAULT_OUT,
        default_tables,
        train_genre_features,
    )

    splits = splits or default_tables()
    table = table or default_tables() / "gtzan_features_30_sec.csv"
    checkpoint, seen = train_genre_features(table, splits, _settings(epochs, seed), _progress)
    typer.echo(f"valid list: accuracy {seen:.3f}", err=True)
    found: dict[str, object] = {"quality": [asdict(q) for q in checkpoint.metadata.quality]}
    if write:
        path = save_checkpoint(checkpoint, out or DEFAULT_OUT)
        typer.echo(f"wrote {path} ({path.stat().st_size} bytes)", err=True)
        found["source"] = {"sha256": sha256_of(path)}
    typer.echo(yaml.safe_dump(found, sort_keys=False, width=100))


def _check_name(name: str) -> None:
    try:
        TypeAdapter[str](Name).validate_python(name)
    except ValidationError as error:
        raise typer.BadParameter(
            f"--name takes lower-case letters, digits and _, as in my_genres, not {name!r}"
        ) from error


def _settings(epochs: int, seed: int) -> FitSettings:
    from bandstand_training.fit import FitSettings

    return FitSettings(epochs=epochs, seed=seed)


@contextmanager
def _progress(title: str, epochs: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task(title, total=epochs)
        yield lambda: bar.advance(task)
        bar.update(task, completed=epochs)  # it may have stopped early
