"""Checkpoints of fitted genre models: one safetensors file each, with its metadata in the header.

The only key of the safetensors metadata is `bandstand`; it holds `CheckpointMetadata` as JSON. One
file is always consistent, and one sha256 in a card covers weights, scaler and metadata.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bandstand.errors import CheckpointError
from bandstand.models.card import Name
from bandstand_client.contract.models import Quality
from bandstand_training.feature_scaler import FeatureScaler
from bandstand_training.genre_network import GenreModel

METADATA_KEY = "bandstand"
SUFFIX = ".safetensors"
LARGEST_BYTES = 64 * 1024 * 1024
"""Larger files are not read; a genre model is a thousand times smaller."""
PICKLE_SUFFIXES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib"}
PICKLE_STARTS = (b"\x80", b"PK\x03\x04")  # a pickle's first opcode; the zip torch.save makes

_HEADER_START = 8
"""Of a safetensors file: the length of the JSON object that follows comes first, little-endian."""


class CheckpointMetadata(BaseModel):
    """The metadata of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name
    """The name of its card."""
    architecture: Literal["feature_mlp"] = "feature_mlp"
    labels: tuple[str, ...] = Field(min_length=2)
    """The classes, in the order of the logits."""
    feature_names: tuple[str, ...] = Field(min_length=1)
    """The inputs, in their order."""
    members: Annotated[int, Field(ge=1, le=64)]
    """Networks whose logits are averaged."""
    fitted_to: str
    """A description of the training data."""
    epochs: int
    seed: int
    quality: tuple[Quality, ...] = ()
    """The measurements, one for each protocol."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model, in evaluation mode, and its metadata."""

    model: GenreModel
    metadata: CheckpointMetadata


def save_checkpoint(checkpoint: Checkpoint, directory: Path) -> Path:
    """Write `<directory>/<name>-v<N>.safetensors`, N one above the newest, and return its path.

    The file is written atomically, and replaces none. Equal checkpoints give equal bytes.

    Raises:
        CheckpointError: the weights are not finite, or do not fit the labels and features.
        OSError: the directory is not writable, or full; no file remains.
    """
    from safetensors.torch import save

    _check(checkpoint.model.state_dict(), checkpoint.metadata, "this model")
    header = {METADATA_KEY: checkpoint.metadata.model_dump_json()}
    content = save(checkpoint.model.state_dict(), header)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".staging-", dir=directory) as staging:
        staged = Path(staging) / "checkpoint"
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return _publish(staged, directory, checkpoint.metadata.name)


def _publish(staged: Path, directory: Path, name: str) -> Path:
    """Give a staged file the next free version; a link, unlike a rename, never replaces a file."""
    while True:
        target = directory / f"{name}-v{max(versions(directory, name), default=0) + 1}{SUFFIX}"
        try:
            target.hardlink_to(staged)
        except FileExistsError:
            continue  # another process took that version
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return target


def versions(directory: Path, name: str) -> list[int]:
    """Return the versions of a model in a directory, ascending."""
    pattern = re.compile(rf"{re.escape(name)}-v([1-9][0-9]*){re.escape(SUFFIX)}")
    matches = (pattern.fullmatch(path.name) for path in directory.glob(f"{name}-v*{SUFFIX}"))
    return sorted(int(match[1]) for match in matches if match)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing code from it.

    Raises:
        CheckpointError: no such file, a pickle, truncated, not of this architecture, labels or
            shapes that do not fit, or weights that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    _refuse_pickles(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is no whole safetensors file: {error}") from error
    if METADATA_KEY not in header:
        raise CheckpointError(f"{path.name} has no {METADATA_KEY!r} metadata: not ours")
    try:
        metadata = CheckpointMetadata.model_validate_json(header[METADATA_KEY])
    except ValidationError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    _check(tensors, metadata, path.name)
    model = _empty_model(metadata)
    model.load_state_dict(tensors)
    return Checkpoint(model.eval(), metadata)


def _refuse_pickles(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_START + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CheckpointError(f"could not read {path}: {error.strerror}") from error
    # The length at the start of a safetensors file can have the first byte of a pickle.
    ours = start[4:] == b"\0\0\0\0{"
    if path.suffix in PICKLE_SUFFIXES or (start.startswith(PICKLE_STARTS) and not ours):
        raise CheckpointError(
            f"{path.name} is a pickle, which may run code when it is loaded: only safetensors are"
        )
    if size > LARGEST_BYTES:
        raise CheckpointError(f"{path.name} has {size} bytes, at most {LARGEST_BYTES} are read")


def _empty_model(metadata: CheckpointMetadata) -> GenreModel:
    scaler = FeatureScaler(len(metadata.feature_names))
    return GenreModel(scaler, len(metadata.labels), metadata.members)


def _check(tensors: dict[str, torch.Tensor], metadata: CheckpointMetadata, what: str) -> None:
    """Compare names, shapes, dtypes with the architecture's; weights must be finite."""
    if len(set(metadata.labels)) != len(metadata.labels):
        raise CheckpointError(f"{what}: a label occurs twice")
    promised = _empty_model(metadata).state_dict()
    if promised.keys() != tensors.keys():
        different = sorted(promised.keys() ^ tensors.keys())
        raise CheckpointError(f"{what}: missing or unknown weights: {different}")
    for name, expected in promised.items():
        found = tensors[name]
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise CheckpointError(
                f"{what}: {name} is {found.dtype} {list(found.shape)}; with "
                f"{len(metadata.labels)} labels and {len(metadata.feature_names)} features it "
                f"should be {expected.dtype} {list(expected.shape)}"
            )
        if not torch.isfinite(found).all():
            raise CheckpointError(f"{what}: {name} has values that are not finite")
