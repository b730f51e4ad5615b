"""The options and the help of `bandstand train`; its code is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

train_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Fit genre models to tables of audio features. Needs bandstand\\[train].",
)

Epochs = Annotated[int, typer.Option(min=1, help="Passes over the rows.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed and table give the same file.")]


@train_app.command()
def table(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE.csv",
            exists=True,
            dir_okay=False,
            help="One row for each clip: `path` or `filename`, and the 57 features by name, as "
            "`bandstand features --csv` writes them.",
        ),
    ],
    *,
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="LABELS.csv",
            show_default="columns of TABLE.csv",
            help="The clips' labels: a column of names as in TABLE.csv, and `label`.",
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column of the class to predict.")
    ] = "label",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            show_default="`group` or `artist`, if there is one",
            help="The column of clips' groups; a group stays on one side of each fold.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model, for a card.")] = "my_genres",
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder that gets `NAME-v<N>.safetensors`.")
    ] = Path(),
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    epochs: Epochs = 120,
    seed: Seed = 0,
) -> None:
    """Fit a genre model to your own recordings, and measure its accuracy.

    [cyan]bandstand features ~/Music --csv features.csv[/cyan]

    [cyan]bandstand train table features.csv --labels labels.csv[/cyan]

    [cyan]bandstand train table features.csv --labels labels.csv --label mood --group album[/cyan]

    labels.csv has one row for each clip, named as in features.csv: path,label,artist

    The report is of a cross-validation: each row is predicted by a model that
    was fitted without it. The checkpoint is then fitted to all rows.

    Name the artists. Without a `group` or `artist` column, clips of one artist,
    album or recording are on both sides of a fold, and the measured accuracy is
    too high: 76 % for GTZAN, and 55 % with artists kept apart. Duplicates under
    two names have the same effect.

    Exit code: 0; 1 if the table cannot be used; 2 if the command was wrong.
    """
    from bandstand_cli import train

    options = train.TableOptions(
        table=path,
        labels=labels,
        label_column=label,
        group_column=group,
        name=name,
        out=out,
        folds=folds,
        epochs=epochs,
        seed=seed,
    )
    train.train_table(options)


@train_app.command("genre_features")
def genre_features(
    *,
    table: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            show_default="BANDSTAND_DATA_DIR/tables/gtzan_features_30_sec.csv",
            help="CSV: `filename`, the 57 features by name, `label`.",
        ),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            show_default="BANDSTAND_DATA_DIR/tables",
            help="Folder of `gtzan_{train,valid,test}_filtered.txt`.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            show_default="the folder of the embedded one",
            help="Folder that gets `genre_features-v<N>.safetensors`.",
        ),
    ] = None,
    epochs: Epochs = 120,
    seed: Seed = 0,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Measure both protocols and write nothing.")
    ] = False,
) -> None:
    """Fit the embedded genre model again, and measure it by two protocols.

    [cyan]bandstand train genre_features[/cyan]                    the same file: about a minute

    [cyan]bandstand train genre_features --evaluate-only --seed 1[/cyan]

    First it fits to the train list and measures on the valid list: choose
    settings by that figure.

    1. Fault-filtered split: fit to the train and valid lists, measure on the
    test list, whose artists are in neither. These weights are written.

    2. Random 10-fold cross-validation: only to compare with other publications.
    It puts the same artists, even the same recordings, on both sides.

    Then put the sha256 and the quality that are printed into the card
    `bandstand/cards/genre_features.yaml`, and run
    `bandstand models export genre_features`.
    """
    from bandstand_cli import train

    train.train_genre_features(
        table, splits, out, epochs=epochs, seed=seed, write=not evaluate_only
    )
