"""Export models into the repository: `python -m exporters export NAME`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from bandstand.errors import BandstandError
from bandstand.settings import get_settings

REPOSITORY = get_settings().repository

app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """Turn checkpoints into proven ONNX models."""


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="The card's name, as in `genre_features`.")],
    repository: Annotated[
        Path, typer.Option(help="The model repository that gets the new version.")
    ] = REPOSITORY,
) -> None:
    """Export the model of a card, prove it against its source, and install it."""
    from bandstand.models.card import get_card
    from bandstand.models.repository import ModelRepository
    from bandstand.models.source import SourceCache
    from exporters.export import export as export_card

    # It warns of every operator of torchvision, which no model here has.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        cache = SourceCache(get_settings().cache_dir)
        exported = export_card(get_card(name), ModelRepository(repository), cache)
    except BandstandError as error:
        typer.echo(f"{error.error_type}: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"installed {name} version {exported.version} in {repository}")
    typer.echo(exported.report.to_json().decode())


if __name__ == "__main__":
    app()
