"""The model repository on disk: Triton's layout, with atomic installs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bandstand.errors import (
    ModelInUseError,
    ModelMismatchError,
    ModelNotFoundError,
    ModelNotInstalledError,
    RepositoryError,
)
from bandstand.models.card import Card, Name
from bandstand.models.installed import CARD_FILE, MODEL_FILE, InstalledModel, card_file
from bandstand.models.staging import publish, staged, sync_directory, write_durably, writing
from bandstand.places import EMBEDDED_MODELS, EMBEDDED_REPOSITORY
from bandstand.settings import Settings

PIN_FILE = "pinned_version"

_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """Versions at `<root>/<name>/<number>/`: `model.onnx`, `card.json`, and the export's report.

    Readers take no lock. Writers (install, remove) of all processes share one lock file, write to a
    staging directory and publish with a rename, so a reader never sees an incomplete version.

    Attributes:
        root: the folder of new versions.
        below: a read-only repository, of which only `EMBEDDED_MODELS` are used: in a checkout it
            contains other models as well. A version in `root` hides the same number in `below`.
    """

    root: Path
    below: Path | None = None

    @classmethod
    def over_embedded(cls, root: Path) -> ModelRepository:
        """Return the repository of a folder, over the embedded models.

        In a checkout the two are the same folder.
        """
        same = root.resolve() == EMBEDDED_REPOSITORY.resolve()
        return cls(root, None if same else EMBEDDED_REPOSITORY)

    @classmethod
    def from_settings(cls, settings: Settings) -> ModelRepository:
        """Return the repository of the settings, over the embedded models."""
        return cls.over_embedded(settings.repository)

    def names(self) -> tuple[str, ...]:
        """Return the models that have a version, sorted; with those whose folder cannot be read.

        Raises:
            RepositoryError: the repository itself cannot be read.
        """
        found = {name for name in _folders(self.root) if _is_name(name)} | EMBEDDED_MODELS
        return tuple(sorted(filter(self.has, found)))

    def has(self, name: str) -> bool:
        """Return whether a model has a version, or a folder that cannot be read."""
        try:
            return _is_name(name) and bool(self.versions(name))
        except RepositoryError:
            return True

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions, ascending; empty when there are none.

        A version is a numbered folder with a graph or a card. If one of them is missing,
        `InstalledModel.card` raises.

        Raises:
            ModelNotFoundError: this is not a model name.
            RepositoryError: a folder cannot be read.
        """
        _check_name(name)
        found = {n for layer in self._layers(name) for n in _versions(layer / name)}
        return tuple(sorted(found))

    def own_versions(self, name: str) -> tuple[int, ...]:
        """Return the `versions` that are not embedded, ascending."""
        below = {n for layer in self._layers(name)[1:] for n in _versions(layer / name)}
        return tuple(version for version in self.versions(name) if version not in below)

    def latest(self, name: str) -> InstalledModel:
        """Return the newest version.

        Raises:
            ModelNotInstalledError: there is none; the message has the command to install one.
        """
        versions = self.versions(name)
        if not versions:
            raise ModelNotInstalledError(
                f"model {name!r} is not installed: run `{install_command(name)}`"
            )
        return self.installed(name, versions[-1])

    def pinned(self, name: str) -> int | None:
        """Return the pinned version, which is served instead of the newest; None: none is pinned.

        Raises:
            ModelNotFoundError: this is not a model name.
            ModelMismatchError: the pin is not a version.
            RepositoryError: it cannot be read.
        """
        path = self._directory(name) / PIN_FILE
        try:
            return int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ModelMismatchError(
                f"{path} does not hold a version: delete it, or load a version"
            ) from error
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error}") from error

    def serving(self, name: str) -> InstalledModel:
        """Return the version to serve: the pinned one, else the newest.

        Raises:
            ModelNotInstalledError: it does not exist.
            ModelMismatchError: the pin is not a version.
            RepositoryError: a folder or the pin cannot be read.
        """
        version = self.pinned(name)
        return self.latest(name) if version is None else self.installed(name, version)

    def pin(self, name: str, version: int | None) -> InstalledModel:
        """Pin a version, or unpin with None, and return the version to serve.

        A running server changes to it when it loads the model again.

        Raises:
            ModelNotInstalledError: that version does not exist.
            RepositoryError: the disk is full or not writable, or other writers never finished.
        """
        with writing(self.root, f"could not pin {name!r}"):
            installed = self.latest(name) if version is None else self.installed(name, version)
            directory = self._directory(name)
            path = directory / PIN_FILE
            if version is None:
                path.unlink(missing_ok=True)
            else:
                directory.mkdir(exist_ok=True)
                written = staged(path)
                write_durably(written, b"%d\n" % version)
                written.rename(path)
            if directory.is_dir():
                sync_directory(directory)
        return installed

    def installed(self, name: str, version: int) -> InstalledModel:
        """Return one version.

        Raises:
            ModelNotInstalledError: that version does not exist; the message lists all versions.
        """
        _check_name(name)
        for layer in self._layers(name):
            folder = layer / name / str(version)
            if _is_version(folder):
                return InstalledModel(name, version, folder)
        there = ", ".join(map(str, self.versions(name))) or "none"
        raise ModelNotInstalledError(
            f"model {name!r} has no version {version} (installed: {there}): "
            f"run `{install_command(name)}`"
        )

    def report(self, name: str, version: int) -> dict[str, Any]:
        """Return the export report of one version.

        Raises:
            ModelNotInstalledError: that version does not exist.
            ModelMismatchError: its report is missing or unreadable.
        """
        return self.installed(name, version).report()

    def install(self, card: Card, files: Mapping[str, Path | bytes]) -> int:
        """Write a new version and return its number: one above the newest.

        When this returns, the version is synced to the disk. If it raises, or the process is
        killed, no part of the version is visible.

        Args:
            card: of the version, with its labels; it is stored beside the model.
            files: content, or the file to copy, by plain file name; `model.onnx` among them.

        Raises:
            ValueError: no labels, no `model.onnx`, or a file name with a path in it.
            RepositoryError: the disk is full or not writable, or other writers never finished.
        """
        if not card.labels:
            raise ValueError(f"the card of a version of {card.name} needs its labels")
        if MODEL_FILE not in files:
            raise ValueError(f"a version needs {MODEL_FILE!r}; given: {sorted(files)}")
        for filename in files:
            if filename != Path(filename).name or filename.startswith("."):
                raise ValueError(f"{filename!r} is no plain file name")
        with writing(self.root, f"could not install {card.name!r} in {self.root}"):
            layers = self._layers(card.name)
            taken = (number for layer in layers for number in _numbers(layer / card.name))
            version = max(taken, default=0) + 1
            folder = self.root / card.name / str(version)
            publish(folder, {**files, CARD_FILE: card_file(card)})
        return version

    def copy_up(self, name: str) -> tuple[int, ...]:
        """Copy the versions that exist only in `below` to `root`; return their numbers.

        For Triton, which reads one folder.

        Raises:
            ModelNotFoundError: this is not a model name.
            RepositoryError: the disk is full or not writable, or other writers never finished.
        """
        if not self._only_below(name):
            return ()
        with writing(self.root, f"could not copy {name!r} to {self.root}"):
            missing = self._only_below(name)  # another process may have copied them
            for version in missing:
                files = self.installed(name, version).folder.iterdir()
                copies = {file.name: file for file in files if file.is_file()}
                publish(self.root / name / str(version), copies)
        return missing

    def remove(self, name: str, version: int) -> None:
        """Delete one version of `root`, atomically for readers, even if the process is killed.

        Raises:
            ModelNotInstalledError: it does not exist.
            ModelInUseError: it is pinned, or it is embedded and exists only in `below`.
            RepositoryError: the disk is not writable, or other writers never finished.
        """
        with writing(self.root, f"could not remove version {version} of {name!r}"):
            if self.pinned(name) == version:
                raise ModelInUseError(
                    f"version {version} of {name!r} is pinned; load another one first"
                )
            folder = self.installed(name, version).folder
            if not folder.is_relative_to(self.root):
                raise ModelInUseError(
                    f"version {version} of {name!r} comes with Bandstand and cannot be removed"
                )
            folder.rename(staged(folder))
            sync_directory(folder.parent)

    def _layers(self, name: str) -> tuple[Path, ...]:
        if self.below is None or name not in EMBEDDED_MODELS:
            return (self.root,)
        return self.root, self.below

    def _only_below(self, name: str) -> tuple[int, ...]:
        taken = _numbers(self._directory(name))
        return tuple(version for version in self.versions(name) if version not in taken)

    def _directory(self, name: str) -> Path:
        _check_name(name)
        return self.root / name


def _is_name(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True


def _check_name(name: str) -> None:
    if not _is_name(name):  # names come from URLs: other text must not become a path
        raise ModelNotFoundError(f"{name!r} is no model name")


def _folders(directory: Path) -> list[str]:
    """Return the names of the folders in a directory; none if it is not a directory.

    Raises:
        RepositoryError: it cannot be read.
    """
    try:
        return [entry.name for entry in os.scandir(directory) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RepositoryError(f"{directory} cannot be read: {error}") from error


def _numbers(directory: Path) -> list[int]:
    """Return the folder names that Triton reads as versions, ascending."""
    names = _folders(directory)
    return sorted(int(n) for n in names if n.isascii() and n.isdigit() and n[0] != "0")


def _versions(directory: Path) -> list[int]:
    return [n for n in _numbers(directory) if _is_version(directory / str(n))]


def _is_version(folder: Path) -> bool:
    try:
        return any((folder / file).is_file() for file in (MODEL_FILE, CARD_FILE))
    except OSError as error:
        raise RepositoryError(f"{folder} cannot be read: {error}") from error


def install_command(name: str) -> str:
    """Return the command that downloads and installs a model."""
    return f"bandstand models pull {name}"
