"""The commands that change the repository: `models pull`, `models export`, `models remove`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bandstand.errors import BandstandError, ModelInUseError, ModelMismatchError, SourceError
from bandstand.models.address import shown_address
from bandstand.models.card import Card, Source
from bandstand.models.catalogue import Catalogue
from bandstand.models.precision import WeightPrecision
from bandstand.models.repository import ModelRepository, install_command
from bandstand.models.source import SourceCache, moved, source_sha256
from bandstand.settings import get_settings
from bandstand_cli.exporting import ExportProcesses
from bandstand_cli.failures import EXIT_FAILED, failure_of, show_failure

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?")
_OWNER_AND_NAME = 2


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `models export`."""

    checkpoint: str | None
    precision: WeightPrecision
    allow_unverified: bool


def pull(name: str | None, *, everything: bool, allow_unverified: bool) -> None:
    """Download one checkpoint, or all, and install its export."""
    catalogue = Catalogue.from_settings(get_settings())

    def pull_one(card: Card) -> None:
        if (version := _installed_already(card, catalogue.repository)) is not None:
            typer.echo(f"{card.name} version {version} is installed already")
            return
        source = _local_weights(card.source) or card.source
        fetched = _fetched(card.name, source, allow_unverified=allow_unverified)
        _export(processes, card, fetched, "fp32")

    with ExportProcesses() as processes:
        _each(_chosen(catalogue, name, everything), pull_one)


def export(name: str | None, options: ExportOptions, *, everything: bool) -> None:
    """Export a local checkpoint or the one of `--checkpoint`; or all local checkpoints."""
    if everything and options.checkpoint is not None:
        raise typer.BadParameter("--checkpoint is for one model, --all for every model")
    catalogue = Catalogue.from_settings(get_settings())

    def export_one(card: Card) -> None:
        if options.checkpoint is not None:
            named = _named_source(card, options)
            source = _fetched(card.name, named, allow_unverified=options.allow_unverified)
        elif (here := _source_here(card)) is not None:
            source = here
        elif everything:
            typer.echo(f"{card.name} is skipped: {_not_here(card)}")
            return
        else:
            raise SourceError(_not_here(card))
        _export(processes, card, source, options.precision)

    with ExportProcesses() as processes:
        _each(_chosen(catalogue, name, everything), export_one)


def remove(name: str, version: int | None) -> None:
    """Remove one version of a model, or all that are not embedded.

    Raises:
        ModelNotFoundError: no model has that name.
        ModelNotInstalledError: the model, or that version, is not installed.
        ModelInUseError: it is embedded or pinned.
        RepositoryError: the repository is not writable.
    """
    catalogue = Catalogue.from_settings(get_settings())
    catalogue.check(name)
    repository = catalogue.repository
    numbers = repository.own_versions(name) if version is None else (version,)
    if not numbers:
        newest = repository.latest(name).version
        raise ModelInUseError(f"{name} version {newest} comes with Bandstand and cannot be removed")
    for number in numbers:
        repository.remove(name, number)
        typer.echo(f"removed {name} version {number}")
    if left := set(repository.versions(name)) - set(repository.own_versions(name)):
        typer.echo(f"version {', '.join(map(str, sorted(left)))} comes with Bandstand and stays")
    if find_spec("tritonclient") is not None:
        from bandstand.triton.config import write_config

        write_config(repository, name)


def _chosen(catalogue: Catalogue, name: str | None, everything: bool) -> list[Card]:
    if (name is None) != everything:
        raise typer.BadParameter("give the name of a model, or --all")
    return list(catalogue.cards.values()) if name is None else [catalogue.installable(name)]


def _each(cards: Sequence[Card], work: Callable[[Card], None]) -> None:
    """Call `work` for every card; if one of several fails, continue with the others."""
    if len(cards) == 1:
        work(cards[0])
        return
    failed = 0
    for card in cards:
        try:
            work(card)
        except BandstandError as error:
            show_failure(failure_of(error), card.name)
            failed += 1
    if failed:
        typer.echo(f"{failed} of {len(cards)} failed", err=True)
        raise typer.Exit(EXIT_FAILED)


# Where checkpoints are


def _installed_already(card: Card, repository: ModelRepository) -> int | None:
    """Return the newest version if it is complete and made from the card's checkpoint."""
    if not repository.versions(card.name):
        return None
    newest = repository.latest(card.name)
    try:
        newest.card()
        report = newest.report()
    except ModelMismatchError:
        return None
    promised = card.source.sha256
    return newest.version if promised and report.get("source_sha256") == promised else None


def _named_source(card: Card, options: ExportOptions) -> Source:
    """Return the source of `--checkpoint`: a file or folder, a URI, or `owner/name` of the hub.

    `-`: it is the next line of standard input.
    """
    name = options.checkpoint or ""
    if name == "-":
        name = sys.stdin.readline().strip()
    revision = None
    if Path(name).exists():
        uri = f"file:{Path(name).resolve()}"
    elif "://" in name or name.startswith("file:"):
        uri = name
    elif _HUB_ID.fullmatch(name):
        file = card.source.uri.rpartition("/")[2]
        names_file = bool(card.source.files) or name.count("/") >= _OWNER_AND_NAME
        uri = f"hf://{name}" if names_file else f"hf://{name}/{file}"
    else:
        raise typer.BadParameter(
            f"{shown_address(name)!r} is not an existing file, a URI, or an owner/name of the hub"
        )
    if uri == card.source.uri:
        revision = card.source.revision
    sha256 = None if options.allow_unverified else card.source.sha256
    return moved(card.source, uri, revision).model_copy(update={"sha256": sha256})


def _source_here(card: Card) -> Source | None:
    """Return the local source of the card's checkpoint, if there is one."""
    if (local := _local_weights(card.source)) is not None:
        return local
    if card.source.sha256 is None:
        return None  # unverified content is never taken from the cache
    try:
        path = SourceCache(get_settings().cache_dir).resolve(card.source, offline=True)
    except SourceError:
        return None
    return card.source.model_copy(update={"uri": f"file:{path}", "revision": None})


def _local_weights(source: Source) -> Source | None:
    """Return a file or folder of the data folder that has the sha256 of a source."""
    directory = get_settings().data_dir / "weights"
    if source.sha256 is None or not directory.is_dir():
        return None
    suffix = Path(source.uri).suffix
    for path in sorted(directory.iterdir()):
        alike = path.is_dir() if source.files else path.is_file() and path.suffix == suffix
        try:
            if alike and source_sha256(source, path) == source.sha256:
                return source.model_copy(update={"uri": f"file:{path}", "revision": None})
        except OSError:  # another model's folder, or not readable
            continue
    return None


def _not_here(card: Card) -> str:
    return (
        f"the checkpoint of {card.name} is not on this machine: `{install_command(card.name)}` "
        "downloads it, `bandstand models export --checkpoint` takes another one"
    )


def _fetched(name: str, source: Source, *, allow_unverified: bool) -> Source:
    """Download a source if necessary, and return it with its sha256."""
    cache = SourceCache(get_settings().cache_dir)
    with _download_bar(name) as progress:
        path = cache.resolve(source, progress=progress, allow_unverified=allow_unverified)
    return source.model_copy(update={"sha256": source_sha256(source, path)})


@contextmanager
def _download_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show bytes and rate on standard error; without a terminal, only the result."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    tasks: list[Any] = []

    def report_progress(done: int, total: int | None) -> None:
        if not tasks:
            bar.start()
            tasks.append(bar.add_task(f"getting {name}", total=total))
        bar.update(tasks[0], completed=done, total=total)

    try:
        yield report_progress
    finally:
        bar.stop()


# Exports


def _export(
    processes: ExportProcesses, card: Card, source: Source, precision: WeightPrecision
) -> None:
    answer = processes.export(card, source, precision)
    report = answer["report"]
    worst = max(report["proof"]["source_difference"].values(), key=lambda d: d["tolerance_used"])
    megabytes = report["model_bytes"] / 1e6
    zeroed = report["denormals_zeroed"]
    typer.echo(
        f"installed {card.name} version {answer['version']} ({megabytes:.1f} MB, {precision}): "
        f"{worst['absolute']:.2g} from {report['framework']} at most, on "
        f"{report['proof']['examples']} examples, {100 * worst['tolerance_used']:.0f} % of what "
        "is allowed" + (f"; {zeroed} denormal weights are zero in it" if zeroed else "")
    )
