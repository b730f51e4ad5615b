"""A command for every operation on audio, made from its declaration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from bandstand_cli.addresses import http_url
from bandstand_client.contract.declaration import Operation, Option
from bandstand_client.contract.operations import OPERATIONS

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="RECORDING…", help="Audio files, directories of them, or URLs."),
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        callback=http_url,
        help="Use this server instead of this process; its key is read from BANDSTAND_API_KEY.",
    ),
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line, as they finish.")
]
_Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write one row for each recording; - is stdout."),
]
_Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        "-c",
        min=1,
        show_default="one a core; at a server: 8",
        help="Recordings in progress at the same time.",
    ),
]
_EXIT_CODES = "Exit code: 0; 1 if a recording failed; 2 if the command was wrong."


def add_operation_commands(app: typer.Typer) -> None:
    """Add a command for each operation."""
    for operation in OPERATIONS:
        app.command(operation.command, help=_help(operation))(_command(operation))


def _help(operation: Operation[..., Any]) -> str:
    from bandstand_cli.help_texts import EXAMPLES

    parts = (operation.summary, EXAMPLES.get(operation.name), _EXIT_CODES)
    return "\n\n".join(part for part in parts if part)


def _command(operation: Operation[..., Any]) -> Any:
    """Return a function whose signature Typer reads as the command's arguments and options."""

    def command(ctx: typer.Context, inputs: list[str], **given: Any) -> None:
        from bandstand_cli.presentations import presentation_of
        from bandstand_cli.run_operation import Options, run_operation

        common = {name: given.pop(name) for name in ("server", "json", "csv", "concurrency")}
        options = Options(**common, debug=ctx.find_root().params["debug"])
        asked = {name: value for name, value in given.items() if value is not None}
        run_operation(operation, inputs, asked, presentation_of(operation), options)

    parameters = [
        _parameter("ctx", typer.Context),
        _parameter("inputs", Inputs),
        *_options(operation),
        _parameter("server", Server, None),
        _parameter("json", _Json, False),
        _parameter("csv", _Csv, None),
        _parameter("concurrency", _Concurrency, None),
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {}
    return command


def _options(operation: Operation[..., Any]) -> Iterator[Parameter]:
    """Yield the operation's options for Typer."""
    kind: Any = operation.options
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        value, *metadata = get_args(hints[field.name])
        option = next(part for part in metadata if isinstance(part, Option))
        number = value in (int, float)
        flags = option.flags or (f"--{field.name.replace('_', '-')}",)
        as_option = typer.Option(
            *flags,
            min=option.least if number else None,
            max=option.most if number else None,
            help=option.meaning,
        )
        yield _parameter(field.name, Annotated[value, as_option], field.default)


def _parameter(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
