"""The model repository on disk: Triton's layout, versions that are whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from bandstand.errors import (
    ModelInUseError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelNotInstalledError,
    RepositoryError,
)
from bandstand.models.card import Card, Name, get_card, load_cards

MODEL_FILE = "model.onnx"
REPORT_FILE = "report.json"
LABELS_FILE = "labels.json"
PIN_FILE = "pinned_version"
LOCK_FILE = ".lock"
STAGING_PREFIX = ".staging-"  # no number, so neither Triton nor `versions` takes it for a version
LOCK_SECONDS = 600.0

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_LABELS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One complete version of one model.

    Attributes:
        model_path: the ONNX file.
        report_path: the export's proof, JSON; whether it exists is not promised.
    """

    name: str
    version: int
    model_path: Path
    report_path: Path


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """Models at `<root>/<name>/<version>/model.onnx`, each with its `report.json` beside it.

    Reading takes no lock. Writers (install, remove) of all processes take turns on one lock file,
    work in a staging directory and publish by a rename, so a reader never sees half a version.
    """

    root: Path

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the complete versions, ascending; empty when there are none.

        Raises:
            ModelNotFoundError: that is no model name at all.
        """
        numbers = _numbers(self._directory(name))
        return tuple(n for n in numbers if (self.root / name / str(n) / MODEL_FILE).is_file())

    def latest(self, name: str) -> InstalledModel:
        """Return the newest complete version.

        Raises:
            ModelNotInstalledError: there is none; the message says which command installs it.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotInstalledError(
                f"model {name!r} is not installed: {_how_to_install(name)}"
            )
        return self.installed(name, versions[-1])

    def pinned(self, name: str) -> int | None:
        """Return the version that is to be served although newer ones may be there, if one is.

        Raises:
            ModelNotFoundError: that is no model name at all.
            RepositoryError: what was written there is no version.
        """
        path = self._directory(name) / PIN_FILE
        try:
            return int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RepositoryError(f"{path} does not hold a version: {error}") from error

    def serving(self, name: str) -> InstalledModel:
        """Return the version to serve: the pinned one, else the newest.

        Raises:
            ModelNotInstalledError: it is not there.
        """
        version = self.pinned(name)
        return self.latest(name) if version is None else self.installed(name, version)

    def pin(self, name: str, version: int | None) -> InstalledModel:
        """Have one version served, or, with None, again the newest; return what that is.

        Servers that run take it up when they are told to load the model.

        Raises:
            ModelNotInstalledError: that version is not there.
            RepositoryError: the disk is full or not writable, or other writers never finished.
        """
        with self._writing(f"could not pin {name!r}"):
            installed = self.latest(name) if version is None else self.installed(name, version)
            path = installed.model_path.parents[1] / PIN_FILE
            if version is None:
                path.unlink(missing_ok=True)
            else:
                written = path.with_name(f"{STAGING_PREFIX}{uuid.uuid4().hex}")
                _write_durably(written, b"%d\n" % version)
                written.rename(path)
            _sync_directory(path.parent)
        return installed

    def installed(self, name: str, version: int) -> InstalledModel:
        """Return one version.

        Raises:
            ModelNotInstalledError: that version is not there; the message lists those that are.
        """
        directory = self._directory(name) / str(version)
        if not (directory / MODEL_FILE).is_file():
            there = ", ".join(map(str, self.versions(name))) or "none"
            raise ModelNotInstalledError(
                f"model {name!r} has no version {version} (installed: {there}): "
                f"{_how_to_install(name)}"
            )
        return InstalledModel(name, version, directory / MODEL_FILE, directory / REPORT_FILE)

    def card(self, installed: InstalledModel) -> Card:
        """Return the model's card, with that version's labels where the card leaves them to it.

        Raises:
            ModelNotFoundError: no card has that name.
            ModelMismatchError: the labels are missing, unreadable, or not as many as outputs.
        """
        card = get_card(installed.name)
        if card.labels:
            return card
        path = installed.model_path.with_name(LABELS_FILE)
        try:
            labels = _LABELS.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ModelMismatchError(
                f"model {installed.name!r} version {installed.version} has no readable "
                f"{LABELS_FILE}: {error}"
            ) from error
        return card.with_labels(labels)

    def report(self, name: str, version: int) -> dict[str, Any]:
        """Return the export report of one version.

        Raises:
            ModelNotInstalledError: that version is not there.
            ModelMismatchError: its report is missing or unreadable, so nothing proves the model.
        """
        path = self.installed(name, version).report_path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelMismatchError(
                f"model {name!r} version {version} has no readable {REPORT_FILE}: {error}"
            ) from error
        if not isinstance(content, dict):
            raise ModelMismatchError(
                f"{REPORT_FILE} of {name!r} version {version} is no JSON object"
            )
        return content

    def install(self, name: str, files: Mapping[str, Path | bytes]) -> int:
        """Write a new version and return its number: the newest plus one.

        When this returns, the version is on the disk for good; when it raises, or the process is
        killed, no part of it can be seen.

        Args:
            name: the model's name.
            files: content, or the file to copy, by plain file name; `model.onnx` among them.

        Raises:
            ValueError: no `model.onnx`, or a file name with a path in it.
            ModelNotFoundError: `name` is no model name.
            RepositoryError: the disk is full or not writable, or other writers never finished.
        """
        if MODEL_FILE not in files:
            raise ValueError(f"a version needs {MODEL_FILE!r}; given: {sorted(files)}")
        for filename in files:
            if filename != Path(filename).name or filename.startswith("."):
                raise ValueError(f"{filename!r} is no plain file name")
        directory = self._directory(name)
        with self._writing(f"could not install {name!r} in {self.root}"):
            directory.mkdir(exist_ok=True)
            staging = directory / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
            staging.mkdir()
            for filename, content in files.items():
                _write_durably(staging / filename, content)
            _sync_directory(staging)
            version = max(_numbers(directory), default=0) + 1
            staging.rename(directory / str(version))
            _sync_directory(directory)
            _sync_directory(self.root)
        return version

    def remove(self, name: str, version: int) -> None:
        """Delete one version; it is gone at once for readers, whatever happens to this process.

        Raises:
            ModelNotInstalledError: it is not there.
            ModelInUseError: it is pinned.
            RepositoryError: the disk is not writable, or other writers never finished.
        """
        with self._writing(f"could not remove version {version} of {name!r}"):
            if self.pinned(name) == version:
                raise ModelInUseError(
                    f"version {version} of {name!r} is pinned; load another one first"
                )
            directory = self.installed(name, version).model_path.parent
            directory.rename(directory.with_name(f"{STAGING_PREFIX}{uuid.uuid4().hex}"))
            _sync_directory(directory.parent)

    def _directory(self, name: str) -> Path:
        try:  # names come from URLs: what is no name must not become a path
            return self.root / _NAME.validate_python(name)
        except ValidationError:
            raise ModelNotFoundError(f"{name!r} is no model name") from None

    @contextmanager
    def _writing(self, failure: str) -> Iterator[None]:
        """Hold the writers' lock; leave no staging directory behind, this run's or a dead one's."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / LOCK_FILE, timeout=LOCK_SECONDS):
                self._sweep()
                try:
                    yield
                finally:
                    self._sweep()
        except Timeout as error:
            raise RepositoryError(f"{failure}: another writer holds {error.lock_file}") from error
        except OSError as error:
            raise RepositoryError(f"{failure}: {error}") from error

    def _sweep(self) -> None:
        """Delete staging directories; under the lock, none of them has a living owner."""
        for staging in self.root.glob(f"*/{STAGING_PREFIX}*"):
            if staging.is_dir():
                shutil.rmtree(staging, ignore_errors=True)
            else:
                staging.unlink(missing_ok=True)
            with suppress(OSError):  # not empty: the model has other versions
                staging.parent.rmdir()


def _numbers(directory: Path) -> list[int]:
    """Return the numbers that Triton would take for versions, ascending."""
    try:
        names = [entry.name for entry in os.scandir(directory) if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(int(n) for n in names if n.isascii() and n.isdigit() and n[0] != "0")


def _how_to_install(name: str) -> str:
    card = load_cards().get(name)
    if card is not None and card.embedded:
        return "it ships with Bandstand; reinstall Bandstand"
    return f"run `{install_command(name)}`"


def install_command(name: str) -> str:
    """Return the command that gets and installs a model."""
    return f"bandstand models pull {name}"


def _write_durably(path: Path, content: Path | bytes) -> None:
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
