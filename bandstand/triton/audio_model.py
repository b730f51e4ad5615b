"""What the models that take encoded audio have in common, inside Triton's Python backend.

A request is answered when its own answer is there, whatever else came in the same batch: each is a
task on an event loop that outlives `execute`. `execute` returns as soon as there is room for more.
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
from bandstand.audio.probe import probe_recording
from bandstand.errors import BandstandError, MalformedRequestError, UnavailableError
from bandstand.models.catalogue import Catalogue, read_cards
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.prepare import LocalPreparation, Preparation, prepare
from bandstand.settings import get_settings
from bandstand.triton.audio_models import AUDIO
from bandstand.triton.served_models import ServedVersions
from bandstand.triton.stub import error_response, pb_utils

logger = logging.getLogger(__name__)

# Requests that one process works on: enough to keep its cores busy while others wait for a model.
# What comes above waits in Triton's queue, and leaves it when nobody waits for the answer any more.
MAX_IN_FLIGHT = 8
_THREADS = 4 * MAX_IN_FLIGHT

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class AudioModel:
    """Answers requests side by side; a model says in `answer` how one is answered.

    Attributes:
        preparation: decodes and cuts, on threads.
        catalogue: of the repository that this server serves.
        versions: the models that Triton serves, for those that ask some.
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
            BandstandError: a refusal; it reaches the client as `bandstand.triton.refusals` says.
        """
        raise NotImplementedError

    def initialize(self, args: Mapping[str, str]) -> None:
        """Make what answers need, and answer one recording, so that no request is the first."""
        settings = get_settings()
        limits = DecodeLimits.from_settings(settings)
        self.preparation = LocalPreparation(limits)
        served = ModelRepository(Path(args["model_repository"]).parent)
        self.catalogue = Catalogue(read_cards(settings), served)
        self.versions = ServedVersions(self.catalogue)
        prepare(probe_recording(), (self.catalogue.installable(DEFAULT_MODEL),), limits)
        self._room = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._loop = asyncio.new_event_loop()
        # A question to a model holds one of these threads until it is answered.
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="answer"))
        self._thread = threading.Thread(target=self._loop.run_forever, name="answers", daemon=True)
        self._thread.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Begin to answer; the answers follow one by one."""
        for request in requests:
            inputs = {t.name(): t.as_numpy().reshape(-1).tolist() for t in request.inputs()}
            sender, request_id = request.get_response_sender(), request.request_id()
            self._room.acquire()
            work = self._respond(inputs, request_id, sender)
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def finalize(self) -> None:
        """Finish what was begun and stop."""
        for _ in range(MAX_IN_FLIGHT):
            self._room.acquire()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _respond(self, inputs: Mapping[str, Any], request_id: str, sender: Any) -> None:
        try:
            if sender.is_cancelled():  # the client left while it waited
                response = error_response(UnavailableError("nobody waits for the answer any more"))
            else:
                response = pb_utils.InferenceResponse(await self.answer(inputs, request_id))
        except BandstandError as error:
            response = error_response(error)
        except Exception as error:  # a fault of ours must reach the client, too
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
