"""The options and the help of `bandstand train`; what it does is imported when it runs."""

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
            help="A row a clip: `path` or `filename`, and the 57 features by name, as "
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
        str, typer.Option(metavar="COLUMN", help="The column of what is to be told.")
    ] = "label",
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            show_default="`group` or `artist`, where there is one",
            help="The column of what clips have in common: kept on one side of each fold.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the model, as a card would have it.")] = "my_genres",
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder that gets `NAME-v<N>.safetensors`.")
    ] = Path(),
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    epochs: Epochs = 120,
    seed: Seed = 0,
) -> None:
    """Fit a genre model to your own recordings, and measure what it is worth.

    [cyan]bandstand features ~/Music --csv features.csv[/cyan]

    [cyan]bandstand train table features.csv --labels labels.csv[/cyan]

    [cyan]bandstand train table features.csv --labels labels.csv --label mood --group album[/cyan]

    labels.csv has a row a clip, named as in features.csv: path,label,artist

    The report is of a cross-validation: each row is predicted by a model that
    was fitted without it. The checkpoint is then fitted to all rows.

    Say who the artist is. Without a `group` or `artist` column, clips of one
    artist or album, even of one recording, are on both sides of a fold, and the
    figures flatter: 76 % of GTZAN's genres are told so, and 55 % with artists
    kept apart. Duplicates under two names flatter in the same way.

    Exit code: 0, 1 when the table cannot be used, 2 when the command was wrong.
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
            show_default="where the one that ships is",
            help="Folder that gets `genre_features-v<N>.safetensors`.",
        ),
    ] = None,
    epochs: Epochs = 120,
    seed: Seed = 0,
    evaluate_only: Annotated[
        bool, typer.Option("--evaluate-only", help="Measure both protocols and write nothing.")
    ] = False,
) -> None:
    """Fit the genre model that ships with Bandstand anew, and measure it by two protocols.

    [cyan]bandstand train genre_features[/cyan]                    as it was made: about a minute

    [cyan]bandstand train genre_features --evaluate-only --seed 1[/cyan]

    First it fits to the train list and watches the valid list: choose settings
    by that figure.

    1. Fault-filtered split: fit to the train and valid lists, measure on the
    test list, whose artists are in neither. These weights are the ones written.

    2. Random 10-fold cross-validation: for comparison with figures of others
    only. It puts the same artists, even the same recordings, on both sides.

    Then put the sha256 and the quality that are printed into the card
    `bandstand/cards/genre_features.yaml`, and run
    `bandstand models export genre_features`.
    """
    from bandstand_cli import train

    train.train_genre_features(
        table, splits, out, epochs=epochs, seed=seed, write=not evaluate_only
    )
