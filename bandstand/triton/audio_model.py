"""Base of the models that take encoded audio, inside Triton's Python backend.

Each request is a task on an event loop that runs on after `execute`, so its answer does not wait
for the other requests of its batch. `execute` returns when the process can take more requests.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bandstand.audio.decode import DecodeLimits
from bandstand.errors import BandstandError, MalformedRequestError, UnavailableError
from bandstand.models.catalogue import Catalogue, read_cards
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.guarded import GuardedPreparation
from bandstand.pipelines.prepare import Preparation
from bandstand.runners.cores import available_cores
from bandstand.settings import get_settings
from bandstand.triton.audio_models import AUDIO
from bandstand.triton.served_models import ServedVersions
from bandstand.triton.stub import error_response, pb_utils

logger = logging.getLogger(__name__)

# Requests in progress in one process: enough to keep its cores busy while some wait for a model.
# The others wait in Triton's queue, which removes those whose client no longer waits.
MAX_IN_FLIGHT = 8
_THREADS = 4 * MAX_IN_FLIGHT

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class AudioModel:
    """Answers requests concurrently; a subclass implements `answer` for one request.

    Attributes:
        preparation: decodes and cuts, on threads.
        catalogue: of the repository that this server serves.
        versions: of the models that Triton serves, for subclasses that call them.
    """

    preparation: Preparation
    catalogue: Catalogue
    versions: ServedVersions

    async def answer(self, inputs: Mapping[str, Any], request_id: str) -> list[Any]:
        """Return the output tensors for one request.

        Args:
            inputs: the elements of each BYTES input, by its name.
            request_id: the client's.

        Raises:
            BandstandError: a refusal; `bandstand.triton.refusals` converts it for the client.
        """
        raise NotImplementedError

    def initialize(self, args: Mapping[str, str]) -> None:
        """Create the resources, and answer one recording to warm them up."""
        settings = get_settings()
        limits = DecodeLimits.from_settings(settings)
        preparation = GuardedPreparation(limits, available_cores())
        self.preparation = preparation
        served = ModelRepository(Path(args["model_repository"]).parent)
        self.catalogue = Catalogue(read_cards(settings), served)
        self.versions = ServedVersions(self.catalogue)
        preparation.warm_up(self.catalogue.installable(DEFAULT_MODEL))
        self._room = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._loop = asyncio.new_event_loop()
        # A call of a model uses one of these threads until it returns.
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="answer"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="answers", daemon=True)
        self._thread.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Start the requests; each sends its answer when it is ready."""
        for request in requests:
            inputs = {t.name(): t.as_numpy().reshape(-1).tolist() for t in request.inputs()}
            sender, request_id = request.get_response_sender(), request.request_id()
            self._room.acquire()
            work = self._respond(inputs, request_id, sender)
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def finalize(self) -> None:
        """Finish the requests in progress and stop."""
        for _ in range(MAX_IN_FLIGHT):
            self._room.acquire()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _respond(self, inputs: Mapping[str, Any], request_id: str, sender: Any) -> None:
        try:
            if sender.is_cancelled():  # the client has disconnected
                response = error_response(
                    UnavailableError("the client no longer waits for the answer")
                )
            else:
                response = pb_utils.InferenceResponse(await self.answer(inputs, request_id))
        except BandstandError as error:
            response = error_response(error)
        except Exception as error:  # the client must get our own faults, too
            logger.exception("request %s", request_id or "-")
            response = error_response(BandstandError(f"{type(error).__name__}: {error}"))
        try:
            sender.send(response, flags=_FINAL)
        finally:
            self._room.release()


def recordings(inputs: Mapping[str, Any]) -> list[bytes]:
    """Return the encoded recordings of a request."""
    return list(inputs[AUDIO])


def text(inputs: Mapping[str, Any], name: str, row: int) -> str | None:
    """Return an optional text input of one row; empty counts as not given.

    Raises:
        MalformedRequestError: it is not UTF-8.
    """
    if name not in inputs:
        return None
    try:
        return inputs[name][row].decode("utf-8") or None
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"the input {name!r} is not UTF-8: {error}") from error


def bytes_tensor(name: str, contents: Sequence[bytes], shape: tuple[int, ...]) -> Any:
    """Return a BYTES output."""
    return pb_utils.Tensor(name, np.array(contents, dtype=np.object_).reshape(shape))
