"""Fit the embedded genre model: `python -m bandstand_training.genre_features --help`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bandstand.errors import BandstandError
from bandstand.settings import get_settings

NAME = "genre_features"
FITTED_TO = (
    "GTZAN: the train and valid lists of the fault-filtered split, 640 clips of 30 s, as the 57 "
    "librosa features of its public feature table"
)
TABLES = get_settings().data_dir / "tables"
DEFAULT_OUT = Path(__file__).with_name("checkpoints")

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
console = Console(stderr=True)


@app.command()
def main(
    *,
    table: Annotated[
        Path, typer.Option(help="CSV: `filename`, the 57 features by name, `label`.")
    ] = TABLES / "gtzan_features_30_sec.csv",
    splits: Annotated[
        Path, typer.Option(help="Folder of `gtzan_{train,valid,test}_filtered.txt`.")
    ] = TABLES,
    out: Annotated[
        Path, typer.Option(help="Folder that gets `genre_features-v<N>.safetensors`.")
    ] = DEFAULT_OUT,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the rows.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 0,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Measure both protocols and write nothing.")
    ] = False,
) -> None:
    """Fit the genre model that ships with Bandstand, and measure it by two protocols.

    First it fits to the train list and watches the valid list: choose settings by that figure.

    1. **Fault-filtered split**: fit to the train and valid lists, measure on the test list, whose
       artists are in neither. These weights are the ones written.

    2. **Random 10-fold cross-validation**: for comparison with figures of others only. It puts the
       same artists, even the same recordings, on both sides.

    Then put the sha256 and the quality that are printed into
    `bandstand/cards/genre_features.yaml`, and run `bandstand models export genre_features`.

    Without options everything is reproduced as it was: about a minute.
    """
    try:
        _run(table, splits, out, epochs=epochs, seed=seed, write=not evaluate_only)
    except (BandstandError, OSError) as error:
        console.print(f"[red]{error}")
        raise typer.Exit(1) from error


def _run(table_path: Path, splits: Path, out: Path, *, epochs: int, seed: int, write: bool) -> None:
    from bandstand.models.source import sha256_of
    from bandstand_training.checkpoint import Checkpoint, CheckpointFacts, save_checkpoint
    from bandstand_training.evaluation import (
        FOLDS,
        cross_validate,
        fit_and_watch,
        fit_on_split,
        measure_on_test,
    )
    from bandstand_training.fit import FitSettings
    from bandstand_training.table import read_split, read_table

    table, split = read_table(table_path), read_split(splits)
    settings = FitSettings(epochs=epochs, seed=seed)
    with _progress("train list", epochs) as step:
        watched, seen = fit_and_watch(table, split, settings, on_epoch=step)
    console.print(f"valid list: accuracy {seen.accuracy:.3f}, best after {watched.epochs} epochs")
    with _progress("train and valid lists", epochs) as step:
        fitted = fit_on_split(table, split, settings, on_epoch=step)
    with _progress(f"random {FOLDS}-fold", FOLDS * epochs) as step:
        random_folds = cross_validate(table, settings, on_epoch=step)
    quality = (measure_on_test(fitted.model, table, split), random_folds)
    found: dict[str, object] = {"quality": [asdict(q) for q in quality]}
    if write:
        facts = CheckpointFacts(
            name=NAME,
            labels=table.classes,
            feature_names=table.feature_names,
            members=settings.members,
            fitted_to=FITTED_TO,
            epochs=fitted.epochs,
            seed=seed,
            quality=quality,
        )
        path = save_checkpoint(Checkpoint(fitted.model, facts), out)
        console.print(f"wrote {path} ({path.stat().st_size} bytes, {fitted.epochs} epochs)")
        found["source"] = {"sha256": sha256_of(path)}
    typer.echo(yaml.safe_dump(found, sort_keys=False, width=100))


@contextmanager
def _progress(title: str, epochs: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(title, total=epochs)
        yield lambda: bar.advance(task)
        bar.update(task, completed=epochs)  # it may have stopped early


if __name__ == "__main__":
    app()
