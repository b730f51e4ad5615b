"""Outcomes for programs: JSON Lines on standard output, CSV in a file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from bandstand_cli.batch import Outcome


def json_line(outcome: Outcome[Any]) -> str:
    """Return one JSON object: `path` and the answer's fields, or `path` and the error's."""
    content: dict[str, object] = {"path": outcome.recording.name}
    if outcome.failure is not None:
        content |= {"error": outcome.failure.message, "error_type": outcome.failure.error_type}
    elif outcome.answer is not None:
        content |= asdict(outcome.answer)
    return json.dumps(content, ensure_ascii=False)


class CsvFile:
    """Rows of one table, written one by one; the first row's names are the header."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer: csv.DictWriter[str] | None = None

    def write(self, row: dict[str, str | float]) -> None:
        """Write a row and flush it.

        Raises:
            ValueError: it has columns that the first row does not have.
        """
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()


@contextmanager
def csv_file(path: Path | None) -> Iterator[CsvFile | None]:
    """Open a CSV file to write, `-` meaning standard output; None gives None."""
    if path is None:
        yield None
    elif str(path) == "-":
        yield CsvFile(sys.stdout)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            yield CsvFile(file)
