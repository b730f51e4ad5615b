"""Writing into a model repository: one writer at a time, and atomic changes."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from bandstand.errors import RepositoryError

LOCK_FILE = ".lock"
LOCK_SECONDS = 600.0
STAGING_PREFIX = ".staging-"  # not a number, so it is no version for Triton or a repository


@contextmanager
def writing(root: Path, failure: str) -> Iterator[None]:
    """Hold the writers' lock; delete all staged files, also those of dead processes.

    Args:
        root: of the repository; it is created if it is missing.
        failure: the start of the error message: the action that failed.

    Raises:
        RepositoryError: the disk is full or not writable, or other writers never finished.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK_FILE, timeout=LOCK_SECONDS):
            _sweep(root)
            try:
                yield
            finally:
                _sweep(root)
    except Timeout as error:
        raise RepositoryError(f"{failure}: another writer holds {error.lock_file}") from error
    except OSError as error:
        raise RepositoryError(f"{failure}: {error}") from error


def staged(path: Path) -> Path:
    """Return an unused path beside `path`, to rename from it or to it."""
    return path.with_name(f"{STAGING_PREFIX}{uuid.uuid4().hex}")


def publish(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Create a folder with these files (content, or files to copy) in one step."""
    folder.parent.mkdir(exist_ok=True)
    staging = staged(folder)
    staging.mkdir()
    for filename, content in files.items():
        write_durably(staging / filename, content)
    sync_directory(staging)
    staging.rename(folder)
    sync_directory(folder.parent)
    sync_directory(folder.parent.parent)


def write_durably(path: Path, content: Path | bytes) -> None:
    """Write a file, or copy one, and wait until it is on the disk."""
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the renames in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Delete all staged files; the caller holds the lock, so no process uses them."""
    for staging in root.glob(f"*/{STAGING_PREFIX}*"):
        if staging.is_dir():
            shutil.rmtree(staging, ignore_errors=True)
        else:
            staging.unlink(missing_ok=True)
        with suppress(OSError):  # not empty: the model has other versions
            staging.parent.rmdir()
