"""The commands that list and show models of a server or of this installation."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bandstand.errors import ModelNotFoundError
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.listing import list_models
from bandstand.settings import get_settings
from bandstand_cli.display import show
from bandstand_cli.keys import api_key
from bandstand_client.contract.models import ModelList, ModelSummary, Quality
from bandstand_client.http import Bandstand

_STATUS_STYLES = {
    "ready": "bold green",
    "installed": "green",
    "not_installed": "yellow",
    "broken": "bold red",
}
_SEE_ALSO = Text(
    "`bandstand models show MODEL` describes a model and how to install it", style="dim"
)


def show_list(server: str | None, *, as_json: bool) -> None:
    """List the models of a server or of this installation."""
    models = _models(server)
    if as_json:
        sys.stdout.write(
            json.dumps(asdict(ModelList(models=models)), indent=2, ensure_ascii=False) + "\n"
        )
        return
    show(Group(models_table(models), _SEE_ALSO))


def models_table(models: Sequence[ModelSummary]) -> RenderableType:
    """One line for each model, at most 80 columns; only names that are too long are folded."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for title in ("task", "status", "version"):
        table.add_column(title, no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for model in models:
        table.add_row(
            Text(model.name, style="bold"),
            model.task,
            Text(model.status, style=_STATUS_STYLES[model.status]),
            "-" if model.version is None else str(model.version),
            _strictest_accuracy(model.quality),
        )
    return table


def show_one(name: str, server: str | None, *, as_json: bool) -> None:
    """Show one model's card, quality and export report.

    Raises:
        ModelNotFoundError: there is none of that name.
    """
    models = {model.name: model for model in _models(server)}
    if name not in models:
        raise ModelNotFoundError(f"no model is called {name!r}; there are: {', '.join(models)}")
    model, report = models[name], _report(models[name], server)
    if as_json:
        content = {**asdict(model), "report": report}
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return
    parts: list[RenderableType] = [_summary(model)]
    if model.quality:
        parts += [_heading("Quality, by protocol"), _quality(model.quality)]
    if report is not None:
        parts += [_heading("Proof of the export"), _tree(report)]
    show(Group(*parts))


def _models(server: str | None) -> tuple[ModelSummary, ...]:
    if server is None:
        return list_models(Catalogue.from_settings(get_settings())).models
    with _client(server) as client:
        return client.models().models


def _report(model: ModelSummary, server: str | None) -> dict[str, Any] | None:
    if model.version is None or model.status == "broken":
        return None
    if server is None:
        repository = ModelRepository.from_settings(get_settings())
        return repository.report(model.name, model.version)
    with _client(server) as client:
        return client.model_metrics(model.name).report


def _client(server: str) -> Bandstand:
    return Bandstand(server, api_key=api_key())


def _strictest_accuracy(qualities: Sequence[Quality]) -> str:
    """The lowest accuracy of several protocols."""
    worst = min((quality.accuracy for quality in qualities), default=None)
    return "-" if worst is None else f"{100 * worst:.1f} %"


def _heading(text: str) -> RenderableType:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def _summary(model: ModelSummary) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows: dict[str, str | Text | None] = {
        "model": Text(model.name, style="bold"),
        "description": model.description,
        "task": model.task,
        "architecture": model.architecture,
        "status": Text(model.status, style=_STATUS_STYLES[model.status]),
        "error": model.reason,
        "version": "-" if model.version is None else str(model.version),
        "all versions": ", ".join(map(str, model.versions)) or "-",
        "runs on": model.runtime,
        "install with": model.install,
        "labels": ", ".join(model.labels),
        "trained on": model.trained_on,
        "licence": model.licence,
    }
    for title, value in rows.items():
        if value is not None:
            table.add_row(title, Text(value) if isinstance(value, str) else value)
    return table


def _quality(qualities: Sequence[Quality]) -> RenderableType:
    """One column for each protocol."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    for quality in qualities:
        table.add_column(Text(quality.protocol), overflow="fold")
    table.add_row("accuracy", *(f"{100 * quality.accuracy:.1f} %" for quality in qualities))
    table.add_row("weighted F1", *(f"{quality.weighted_f1:.3f}" for quality in qualities))
    table.add_row("examples", *(str(quality.examples) for quality in qualities))
    if any(quality.note for quality in qualities):
        table.add_row("note", *(Text(quality.note) for quality in qualities))
    return table


def _tree(content: object) -> RenderableType:
    """Nested JSON as nested tables."""
    if isinstance(content, dict):
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in content.items():
            table.add_row(Text(str(key)), _tree(value))
        return table
    if isinstance(content, list) and any(isinstance(entry, dict | list) for entry in content):
        return Group(*(_tree(entry) for entry in content))
    if isinstance(content, list):
        return Text(", ".join(map(str, content)))
    return Text(f"{content:.6g}" if isinstance(content, float) else str(content))
