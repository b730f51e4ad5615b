"""Export models into the repository: `python -m bandstand_exporters export NAME`."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandstand.errors import BandstandError
from bandstand.models.precision import WeightPrecision
from bandstand.settings import get_settings

if TYPE_CHECKING:  # it imports numpy, which the help does not need
    from bandstand_exporters.export import Exported

REPOSITORY = get_settings().repository

app = typer.Typer(add_completion=False)


@app.callback()
def main() -> None:
    """Turn checkpoints into proven ONNX models."""


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="The card's name, as in `genre_features`.")],
    *,
    repository: Annotated[
        Path, typer.Option(help="The model repository that gets the new version.")
    ] = REPOSITORY,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Source of the checkpoint, instead of the card's; -: a line of standard input.",
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Its branch, tag or commit, if the source is a hub repository."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Its sha256, instead of the card's.")] = None,
    precision: Annotated[WeightPrecision, typer.Option(help="Precision of the weights.")] = "fp32",
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print steps and result as JSON Lines.")
    ] = False,
) -> None:
    """Export the model of a card, prove it against its source, and install it."""
    output = _JsonOutput(name) if json_lines else _TextOutput(name)
    if checkpoint == "-":  # every user of the machine can read the arguments of its processes
        checkpoint = sys.stdin.readline().strip()
    asked = _Asked(name, checkpoint, revision, sha256, precision)
    if not _export(asked, repository, output):
        raise typer.Exit(1)


@app.command()
def several(
    *,
    repository: Annotated[
        Path, typer.Option(help="The model repository that gets the new versions.")
    ] = REPOSITORY,
) -> None:
    """Export what lines of standard input name, as JSON Lines; print the same.

    A line has `name`, and may have `checkpoint`, `revision`, `sha256` and `precision`.
    """
    for line in sys.stdin:
        asked = _Asked(**json.loads(line))
        _export(asked, repository, _JsonOutput(asked.name))


@dataclass(frozen=True, slots=True)
class _Asked:
    """One export: a card, and what replaces its source."""

    name: str
    checkpoint: str | None = None
    revision: str | None = None
    sha256: str | None = None
    precision: WeightPrecision = "fp32"


def _export(asked: _Asked, repository: Path, output: _TextOutput) -> bool:
    """Export a model, print its steps and its report or error; return whether it is installed."""
    from bandstand.models.catalogue import Catalogue
    from bandstand.models.source import SourceCache, moved
    from bandstand_exporters.export import export as export_card

    # It warns of every operator of torchvision, which no model here has.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        settings = get_settings().model_copy(update={"repository": repository})
        catalogue = Catalogue.from_settings(settings)
        card = catalogue.installable(asked.name)
        source = card.source
        if asked.checkpoint is not None:
            source = moved(source, asked.checkpoint, asked.revision)
        if asked.sha256 is not None:
            source = source.model_copy(update={"sha256": asked.sha256})
        exported = export_card(
            card,
            catalogue.repository,
            SourceCache(settings.cache_dir),
            checkpoint=source,
            precision=asked.precision,
            on_step=output.step,
        )
    except BandstandError as error:
        output.failure(error)
        return False
    output.success(exported, repository)
    return True


class _TextOutput:
    """Prints text for people."""

    def __init__(self, name: str) -> None:
        self._name = name

    def step(self, step: str) -> None:
        typer.echo(f"{self._name}: {step}", err=True)

    def failure(self, error: BandstandError) -> None:
        typer.echo(f"{error.error_type}: {error}", err=True)

    def success(self, exported: Exported, repository: Path) -> None:
        typer.echo(f"installed {self._name} version {exported.version} in {repository}")
        typer.echo(exported.report.to_json().decode())


class _JsonOutput(_TextOutput):
    """Prints one JSON object a line on standard output, for programs."""

    def step(self, step: str) -> None:
        typer.echo(json.dumps({"step": step}))

    def failure(self, error: BandstandError) -> None:
        typer.echo(json.dumps(error.to_fields()))

    def success(self, exported: Exported, _repository: Path) -> None:
        report = json.loads(exported.report.to_json())
        typer.echo(json.dumps({"version": exported.version, "report": report}))


if __name__ == "__main__":
    app()
