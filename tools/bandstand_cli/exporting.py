"""The processes that export: frameworks need much memory, and can end their process.

Models that share a runner process when they are served share one here, one after the other: to
import the frameworks takes longer than to export a small model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

import typer

from bandstand.errors import BandstandError
from bandstand.models.card import Card, Source
from bandstand.models.precision import WeightPrecision

_COMMAND = [sys.executable, "-P", "-m", "bandstand_exporters", "several"]
# Threads that wait for others sleep: awake, on a busy machine, they took as much CPU time again.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
# Of glibc: freed memory is used again. To return it to the system and map it again for each window
# took a quarter of the CPU time; the process needs more memory, too much for a heavy model.
_OF_LIGHT_MODELS = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
}


class ExportProcesses:
    """Exports models in other processes, until the block ends; a context manager."""

    def __init__(self) -> None:
        self._shared: _ExportProcess | None = None

    def __enter__(self) -> ExportProcesses:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        if self._shared is not None:
            self._shared.end(kill=error is not None)

    def export(self, card: Card, source: Source, precision: WeightPrecision) -> dict[str, Any]:
        """Export a model, print the steps, and return its version and its report.

        Raises:
            BandstandError: the exporter's error, or its exit code if it crashed.
        """
        if card.runner == "own":  # its memory is needed for one model
            process = _ExportProcess(_ENVIRONMENT)
            try:
                return process.export(card, source, precision)
            finally:
                process.end(kill=True)
        if self._shared is not None and not self._shared.is_running:
            self._shared.end(kill=False)
            self._shared = None
        self._shared = self._shared or _ExportProcess(_ENVIRONMENT | _OF_LIGHT_MODELS)
        return self._shared.export(card, source, precision)


class _ExportProcess:
    """One process; it exports what its standard input names, one model a line."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env={**environment, **os.environ},
        )

    @property
    def is_running(self) -> bool:
        """Whether it takes another model."""
        return self._process.poll() is None

    def export(self, card: Card, source: Source, precision: WeightPrecision) -> dict[str, Any]:
        """See `ExportProcesses.export`."""
        given = {
            "name": card.name,
            # Not as an argument, which every user of the machine can read: an address can have
            # credentials in it.
            "checkpoint": source.uri,
            "revision": source.revision,
            "sha256": source.sha256,
            "precision": precision,
        }
        with suppress(BrokenPipeError):  # it ended: its exit code and last line tell why
            self._input.write(json.dumps(given) + "\n")
            self._input.flush()
        for answer in _json_lines(self._output):
            if "step" in answer:
                typer.echo(f"{card.name}: {answer['step']}", err=True)
            elif "error_type" in answer:
                raise BandstandError.from_fields(answer)  # type: ignore[arg-type]
            elif "report" in answer:
                return answer
        code = self._process.wait()
        self._complaints.seek(0)
        last = "; ".join(self._complaints.read().strip().splitlines()[-1:])
        raise BandstandError(
            f"the export of {card.name} ended with code {code} and no result ({last or 'no output'}"
            "); a negative code is a signal, and -9 is often a lack of memory"
        )

    def end(self, *, kill: bool) -> None:
        """Wait for its end, which an end of its input brings about."""
        if kill:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._input.close()
        self._process.wait()
        self._output.close()
        self._complaints.close()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None  # noqa: S101 (it is a pipe)
        return self._process.stdin

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None  # noqa: S101 (it is a pipe)
        return self._process.stdout


def _json_lines(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among a process's lines; frameworks print other lines."""
    for line in stream:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content
