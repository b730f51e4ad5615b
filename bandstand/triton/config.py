"""Triton's config of every model: `config.pbtxt`, made from the card with Triton's protobuf."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from bandstand.errors import (
    BandstandError,
    RepositoryError,
    UnavailableError,
)
from bandstand.models.card import Card, Tensor
from bandstand.models.repository import ModelRepository
from bandstand.models.staging import staged, writing
from bandstand.triton.audio_models import AUDIO_MODELS, AudioModelLayout
from bandstand.triton.load_rules import ONE_BY_ONE

try:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb
except ImportError as error:
    raise UnavailableError("Triton needs its client: pip install 'bandstand[triton]'") from error

ModelConfig = Any
"""`inference.ModelConfig`; its generated module has no types."""

CONFIG_FILE = "config.pbtxt"
LABEL_FILE = "labels.txt"

# A delay was slower on every machine that we measured: requests collect while the batch before them
# is computed, and on an idle server every answer would take longer by the delay.
MAX_QUEUE_DELAY_US = 500

ENGINE_CACHE = "/tmp/bandstand-engines"  # noqa: S108 (in the server's container)

_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64"}
_TYPES |= {"int32": "TYPE_INT32", "bytes": "TYPE_STRING"}
_CARD_BACKEND = "onnxruntime"
_HEADER = "# Generated from the cards by `bandstand triton`, which overwrites changes.\n"


def card_config(card: Card, version: int | None = None) -> ModelConfig:
    """Return Triton's config of a card's model.

    The instance group names no kind: the model loads on a GPU if there is one, else on the CPU.

    Args:
        card: the model, with the labels of the version that is served.
        version: the version to serve; None: the newest.
    """
    config = pb.ModelConfig(
        name=card.name, backend=_CARD_BACKEND, max_batch_size=card.batch.max_size
    )
    config.input.extend(pb.ModelInput(**_tensor(tensor)) for tensor in card.inputs)
    config.output.extend(pb.ModelOutput(**_tensor(tensor)) for tensor in card.outputs)
    if card.labels:
        config.output[0].label_filename = LABEL_FILE
    if version is None:
        config.version_policy.latest.num_versions = 1
    else:
        config.version_policy.specific.versions.append(version)
    # No queue policy at all: docs/decisions/0007-triton.md gives the reason.
    config.dynamic_batching.SetInParent()
    delay_us = min(round(card.batch.max_delay_ms * 1e3), MAX_QUEUE_DELAY_US)
    config.dynamic_batching.max_queue_delay_microseconds = delay_us
    config.instance_group.append(_instances(card))
    for size in sorted({1, card.batch.max_size}):
        config.model_warmup.append(_warm_up(card, size))
    config.response_cache.enable = card.triton.response_cache
    if card.batch.one_by_one_on_cpu:
        config.parameters[ONE_BY_ONE].string_value = "1"
    _accelerate(config, card)
    return config


def audio_model_config(layout: AudioModelLayout) -> ModelConfig:
    """Return Triton's config of a model that takes encoded audio; it runs on the CPU."""
    config = pb.ModelConfig(
        name=layout.name, backend="python", max_batch_size=layout.max_batch_size
    )
    for slot in layout.inputs:
        kind = _TYPES[slot.dtype]
        config.input.add(name=slot.name, data_type=kind, dims=slot.dims, optional=slot.optional)
    for slot in layout.outputs:
        config.output.add(name=slot.name, data_type=_TYPES[slot.dtype], dims=slot.dims)
    config.instance_group.add(count=layout.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    if layout.max_batch_size:
        config.dynamic_batching.SetInParent()
    return config


def to_text(config: ModelConfig) -> str:
    """Return the content of `config.pbtxt`."""
    return _HEADER + cast("str", text_format.MessageToString(config))


def write_configs(repository: ModelRepository) -> tuple[str, ...]:
    """Complete the repository's root for a Triton server; return the names of its models, sorted.

    It copies the embedded models there, and writes a config for every installed model, and the
    models that take encoded audio.

    Raises:
        RepositoryError: the disk is full or not writable.
    """
    configs = repository.root.glob(f"*/{CONFIG_FILE}")
    left = {path.parent.name for path in configs if _is_of_card(path)}
    names = {name for name in left.union(repository.names()) if write_config(repository, name)}
    for name, layout in AUDIO_MODELS.items():
        files = {CONFIG_FILE: to_text(audio_model_config(layout)), "1/model.py": layout.code}
        _write(repository.root, name, files)
    return tuple(sorted(names | AUDIO_MODELS.keys()))


def choose_version(repository: ModelRepository, name: str, version: int | None) -> None:
    """Pin a version, or unpin with None, and write the config; the next load uses it.

    Raises:
        ModelNotInstalledError: that version does not exist.
        RepositoryError: the disk is full or not writable.
    """
    repository.pin(name, version)
    write_config(repository, name)


def write_config(repository: ModelRepository, name: str) -> bool:
    """Write one model's config, or delete it if no version is installed; return whether one exists.

    Files are replaced atomically, and only if they change, under the lock of the repository's
    writers: these delete staged files of others. The config of a broken model does not change;
    requests for that model get its error.

    Raises:
        RepositoryError: the disk is full or not writable, or other writers never finished.
    """
    directory = repository.root / name
    repository.copy_up(name)
    if not repository.versions(name):
        if _is_of_card(directory / CONFIG_FILE) or _is_empty(directory):
            with writing(repository.root, f"could not delete Triton's config in {directory}"):
                return _delete(repository, name)
        return False
    try:
        card, pinned = repository.serving(name).card(), repository.pinned(name)
    except BandstandError:
        return True
    files = {CONFIG_FILE: to_text(card_config(card, pinned))}
    files[LABEL_FILE] = "".join(f"{label}\n" for label in card.labels)
    _write(repository.root, name, files)
    return True


def _is_of_card(path: Path) -> bool:
    """Return whether a config was made from a card: audio models have another backend."""
    with suppress(OSError, UnicodeDecodeError, text_format.ParseError):
        text = path.read_text(encoding="utf-8")
        config = text_format.Parse(text, pb.ModelConfig())
        return text.startswith(_HEADER) and config.backend == _CARD_BACKEND
    return False


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _delete(repository: ModelRepository, name: str) -> bool:
    """Delete a config, unless a version was installed meanwhile; return whether one was."""
    directory = repository.root / name
    if repository.versions(name):
        return True
    for filename in (CONFIG_FILE, LABEL_FILE):
        (directory / filename).unlink(missing_ok=True)
    with suppress(OSError):  # it contains other files
        directory.rmdir()
    return False


def _write(root: Path, name: str, files: Mapping[str, str]) -> None:
    """Write the files of a model that differ; a repository with the right ones is only read."""
    failure = f"could not write Triton's config in {root / name}"
    try:
        changed = {
            root / name / filename: content
            for filename, content in files.items()
            if not _has(root / name / filename, content)
        }
    except OSError as error:
        raise RepositoryError(f"{failure}: {error}") from error
    if changed:
        with writing(root, failure):
            for path, content in changed.items():
                _replace(path, content)


def _has(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == content


def _replace(path: Path, content: str) -> None:
    """Write a file atomically: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = staged(path)
    try:
        with written.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": _TYPES[tensor.dtype], "dims": tensor.shape}


def _instances(card: Card) -> Any:
    group = pb.ModelInstanceGroup(count=card.triton.instances)
    for name, count in card.triton.resources.items():
        group.rate_limiter.resources.add(name=name, count=count)
    return group


def _warm_up(card: Card, size: int) -> Any:
    warm_up = pb.ModelWarmup(name=f"batch_{size}", batch_size=size)
    for tensor in card.inputs:
        silence = pb.ModelWarmup.Input(
            data_type=_TYPES[tensor.dtype], dims=tensor.shape, zero_data=True
        )
        warm_up.inputs[tensor.name].CopyFrom(silence)
    return warm_up


def _accelerate(config: ModelConfig, card: Card) -> None:
    """Add the card's settings for GPUs; a server without a GPU ignores them."""
    asked = card.triton
    if asked.accelerator == "none":
        return
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    accelerator = accelerators.add(name=asked.accelerator)
    if asked.accelerator == "cuda":
        # TF32 keeps ten bits of each factor; the error would exceed a card's tolerance.
        accelerator.parameters["use_tf32"] = "0"
        accelerator.parameters["cudnn_conv1d_pad_to_nc1d"] = "1"
        return
    accelerator.parameters["precision_mode"] = asked.precision.upper()
    # An engine takes minutes to build; TensorRT rejects the engine of another model.
    accelerator.parameters["trt_engine_cache_enable"] = "1"
    accelerator.parameters["trt_engine_cache_path"] = ENGINE_CACHE
    (tensor, *_) = card.inputs
    axes = "x".join(map(str, tensor.shape))
    for which, rows in (("min", 1), ("opt", card.batch.max_size), ("max", card.batch.max_size)):
        accelerator.parameters[f"trt_profile_{which}_shapes"] = f"{tensor.name}:{rows}x{axes}"
