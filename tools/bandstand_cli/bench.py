"""The command that tests a server under load: `bench`."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from bandstand.places import SAMPLES
from bandstand.settings import get_settings
from bandstand_cli.bench_display import BenchProgress, show_report
from bandstand_cli.failures import EXIT_FAILED
from bandstand_cli.inputs import NoSuchInputError, find_recordings
from bandstand_loadtest.load_test import LoadTestOptions, run_load_test
from bandstand_loadtest.page import check_can_write, write_page


def run(
    inputs: Sequence[str], options: LoadTestOptions, *, json: Path | None, html: Path | None
) -> None:
    """Test a server; see `bandstand bench --help`.

    Args:
        inputs: files and folders of recordings; none: the samples.
        options: of the load test.
        json: a file to write.
        html: a file to write.

    Raises:
        typer.BadParameter: options that cannot be combined, or inputs that are not recordings.
    """
    try:
        options.check()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    files = _files(inputs)
    if html is not None:
        check_can_write()
    command = shlex.join(["bandstand", *sys.argv[1:]])
    with BenchProgress() as progress:
        report = asyncio.run(
            run_load_test(
                files, options, get_settings(), observer=progress.observer, command=command
            )
        )
    show_report(report)
    if json is not None:
        report.write_json(json)
    if html is not None:
        write_page(report, html)
    if not report.passed:
        raise typer.Exit(EXIT_FAILED)


def read_levels(text: str) -> tuple[int, ...]:
    """Read the levels of a sweep.

    Raises:
        typer.BadParameter: not whole numbers above zero.
    """
    try:
        levels = tuple(int(level) for level in text.split(","))
    except ValueError:
        levels = (0,)
    if min(levels) < 1:
        raise typer.BadParameter(f"--levels takes numbers like 1,2,4, not {text!r}")
    return levels


def _files(inputs: Sequence[str]) -> list[Path]:
    try:
        found = find_recordings(inputs or [str(SAMPLES)])
    except NoSuchInputError as error:
        raise typer.BadParameter(str(error)) from error
    files = [recording.path for recording in found if recording.path is not None]
    if len(files) < len(found):
        raise typer.BadParameter("recordings to send are files and folders, not URLs")
    return files
