"""Models of this Triton server, called from inside it (business logic scripting, BLS)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bandstand.errors import (
    BandstandError,
    ModelMismatchError,
    ModelNotInstalledError,
    NonFiniteOutputError,
    UnavailableError,
)
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.installed import InstalledModel
from bandstand.runners.base import Array
from bandstand.runners.checks import check_batch, finite_rows
from bandstand.triton.refusals import from_message
from bandstand.triton.stub import pb_utils


class ServedVersions:
    """Which version of each model Triton serves, with that version's card.

    Every call names a version, so the version in an answer is the one that computed it. The number
    is cached until a call of it fails.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._known: dict[str, tuple[InstalledModel, Card]] = {}

    def get(self, name: str) -> tuple[InstalledModel, Card]:
        """Return the newest version that is served.

        Raises:
            KeyError: no version is installed, or the served version is broken.
            ModelNotInstalledError: no version is loaded.
            UnavailableError: the server is stopping.
        """
        if name not in self._known:
            repository = self.catalogue.repository
            versions = repository.versions(name) if name in self.catalogue else ()
            if not versions:
                raise KeyError(name)
            ready = (v for v in reversed(versions) if _is_ready(name, v))
            version = next(ready, None)
            if version is None:
                raise ModelNotInstalledError(f"{name} is installed, but not loaded in this server")
            installed = repository.installed(name, version)
            try:
                self._known[name] = installed, installed.card()
            except ModelMismatchError as error:
                raise KeyError(name) from error
        return self._known[name]

    def forget(self, name: str) -> None:
        """Remove a model from the cache; the next `get` calls Triton."""
        self._known.pop(name, None)


class ServedModel:
    """One model for one request; implements `bandstand.runners.pool.Model`."""

    def __init__(self, name: str, versions: ServedVersions, request_id: str) -> None:
        self._name = name
        self._versions = versions
        self._request_id = request_id
        self._installed, self.card = versions.get(name)

    @property
    def version(self) -> int:
        """The version that computes, or has computed, the outputs."""
        return self._installed.version

    async def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs of one batch, in several calls if it is larger than the model's.

        Raises:
            NonFiniteOutputError: the outputs have NaN or infinity.
            ModelNotInstalledError: the model is no longer loaded.
            UnavailableError: its queue is full, or the server is stopping.
            BandstandError: any other error of Triton.
        """
        batch = check_batch(self.card, inputs)
        try:
            outputs = await self._infer(batch)
        except BandstandError:
            if _is_ready(self._name, self.version):
                raise
            # Triton serves another version now; its card has the same inputs.
            self._versions.forget(self._name)
            self._installed, self.card = self._versions.get(self._name)
            outputs = await self._infer(batch)
        if not finite_rows(outputs).all():
            raise NonFiniteOutputError("the model answered NaN or infinity")
        return outputs

    async def _infer(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        rows, size = len(next(iter(batch.values()))), self.card.batch.max_size
        pieces = await asyncio.gather(
            *(
                self._call({name: array[at : at + size] for name, array in batch.items()})
                for at in range(0, rows, size)
            )
        )
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    async def _call(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        names = [tensor.name for tensor in self.card.outputs]
        request = pb_utils.InferenceRequest(
            request_id=self._request_id,
            model_name=self._name,
            model_version=self._installed.version,
            requested_output_names=names,
            inputs=[pb_utils.Tensor(name, array) for name, array in batch.items()],
        )
        try:
            response = await request.async_exec()
        except pb_utils.TritonModelException as error:
            raise UnavailableError(f"{self._name}: {error}") from error
        if response.has_error():
            raise _raised(self._name, response.error())
        found = ((name, pb_utils.get_output_tensor_by_name(response, name)) for name in names)
        return {name: np.array(tensor.as_numpy()) for name, tensor in found}


class ServedModels(Mapping[str, ServedModel]):
    """The models by name, for one request."""

    def __init__(self, versions: ServedVersions, request_id: str) -> None:
        self._versions = versions
        self._request_id = request_id

    def __getitem__(self, name: str) -> ServedModel:
        return ServedModel(name, self._versions, self._request_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions.catalogue)

    def __len__(self) -> int:
        return len(list(self))


def _is_ready(name: str, version: int) -> bool:
    """Return whether Triton serves a version.

    Raises:
        UnavailableError: the server is stopping.
    """
    try:
        return bool(pb_utils.is_model_ready(name, str(version)))
    except pb_utils.TritonModelException as error:
        raise UnavailableError(f"{name}: {error}") from error


def _raised(name: str, error: Any) -> BandstandError:
    typed = from_message(error.message())
    if typed is not None:
        return typed
    unavailable = error.code() == pb_utils.TritonError.UNAVAILABLE
    return (UnavailableError if unavailable else BandstandError)(f"{name}: {error.message()}")
