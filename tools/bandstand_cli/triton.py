"""The command `triton`: serves the repository with a Triton server."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bandstand.errors import ModelControlOffError, UnavailableError
from bandstand.models.catalogue import Catalogue
from bandstand.models.repository import ModelRepository
from bandstand.runners.triton_memory import is_this_host
from bandstand.settings import get_settings
from bandstand.triton.config import write_configs
from bandstand.triton.docker import build_command, dockerfile, key_command, run_command
from bandstand.triton.environment import prepare_environment
from bandstand.triton.server import (
    ModelControl,
    ModelState,
    ServerOptions,
    TritonServer,
    running_server,
)
from bandstand_cli.display import show

RESPONSE_CACHE_BYTES = 64 * 1024 * 1024


def options_for(
    *,
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    repository: Path | None,
    model_control: ModelControl,
) -> ServerOptions:
    """Return the server's options: those of the command, and those that the cards need.

    The cards of models that are not installed count too: they can be loaded later.
    """
    settings = get_settings()
    repository = repository or settings.repository
    catalogue = Catalogue.from_settings(settings.model_copy(update={"repository": repository}))
    cards = (*catalogue.cards.values(), *catalogue.usable().values())
    asked = [card.triton for card in cards]
    cache = any(triton.response_cache for triton in asked)
    return ServerOptions(
        repository=repository,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        model_control=model_control,
        response_cache_bytes=RESPONSE_CACHE_BYTES if cache else 0,
        rate_limit=any(triton.resources for triton in asked),
    )


def show_docker(options: ServerOptions) -> None:
    """Complete the repository for Triton; print the commands to serve it from NVIDIA's image.

    Raises:
        RepositoryError: the repository is not writable.
    """
    write_configs(ModelRepository.over_embedded(options.repository))
    sys.stdout.write(
        f"# 1. Build the image:\n{build_command()} <<'END'\n{dockerfile()}END\n\n"
        "# 2. Serve (without --gpus=all if there is no GPU). BANDSTAND_ADMIN_KEY has to be set,\n"
        "# here and for a gateway: without that key it cannot share memory or change models.\n"
        f"{key_command()}\n{run_command(options)}\n"
    )


def show_control_key() -> None:
    """Print the key with which clients change a Triton server's models.

    Raises:
        ModelControlOffError: there is no `BANDSTAND_ADMIN_KEY` to derive it from.
    """
    key = get_settings().triton_control_key()
    if key is None:
        raise ModelControlOffError("BANDSTAND_ADMIN_KEY is not set: the key is derived from it")
    typer.echo(key)


def prepare_only(options: ServerOptions) -> None:
    """Prepare the server's environment and the repository, without starting the server."""
    environment = prepare_environment(get_settings().cache_dir, _show_step)
    names = write_configs(ModelRepository.over_embedded(options.repository))
    typer.echo(f"the Triton server is ready to start from {environment.root}")
    typer.echo(f"{options.repository} has configs of {', '.join(names)}")


def serve(options: ServerOptions) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        UnavailableError: the server cannot be installed or started, or it ended unexpectedly.
    """
    _warn_of_others(options.host)
    with _sigterm_ends(), running_server(options, on_step=_show_step) as server:
        show(_table(server.models()))
        typer.echo(
            f"HTTP {server.http_url}   gRPC {server.grpc_address}   metrics {server.metrics_url}\n"
            f"log {server.log}   Ctrl-C stops it"
        )
        _until_it_ends(server)


def _warn_of_others(host: str) -> None:
    """Say what an address means that other machines can reach."""
    if is_this_host(f"{host}:0"):
        return
    line = Text("warning: ", style="bold yellow")
    line.append(
        f"whoever reaches {host} can compute with the models, without a key; "
        "to change them takes the key of BANDSTAND_ADMIN_KEY, which is sent in clear text: "
        "put a proxy with TLS before it",
        style="default",
    )
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)


def _until_it_ends(server: TritonServer) -> None:
    try:
        server.process.wait()
    except KeyboardInterrupt:
        typer.echo("stopping: requests in flight are finished first", err=True)
        return
    raise UnavailableError(f"the Triton server ended unexpectedly:\n{server.complaints()}")


def _table(models: Sequence[ModelState]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("model", "version", "state"):
        table.add_column(title, no_wrap=True)
    table.add_column("why", overflow="fold")
    for model in models:
        style = "bold green" if model.ready else "bold red"
        table.add_row(
            Text(model.name, style="bold"),
            model.version or "-",
            Text(model.state.lower() or "not loaded", style=style),
            "" if model.ready else model.reason,
        )
    return table


def _show_step(step: str) -> None:
    Console(stderr=True, highlight=False).print(Text(step, style="dim"))


@contextmanager
def _sigterm_ends() -> Iterator[None]:
    """Make SIGTERM end the command as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
