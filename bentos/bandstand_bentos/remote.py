"""The gateway's side of a worker, and of the preprocessor: pipelines do not know of processes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import numpy as np
from bentoml.exceptions import BentoMLException

from bandstand.errors import BandstandError, UnavailableError
from bandstand.models.card import Card
from bandstand.pipelines.prepare import Prepared
from bandstand.runners.base import Array
from bandstand.runners.repetition import PAUSES_SECONDS, RETRY_AFTER_SECONDS
from bandstand.runners.wire import pack, unpack
from bandstand.telemetry import CACHE_LOOKUPS, RETRIES, STAGE_SECONDS, request_id, stage
from bandstand_bentos.handover import SMALLEST_BYTES, HandoverError, handed_over
from bandstand_bentos.worker import Arrays, Facts
from bandstand_client.contract.shared import AudioMetadata

# Hashing releases the interpreter lock; below this it is not worth a thread.
_HASH_INLINE_BYTES = 4 * 1024 * 1024

_DROPPED = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""What a dying worker leaves behind: no answer, or the beginning of one."""

Call = Callable[[bytes], Awaitable[bytes]]

logger = logging.getLogger("bandstand.gateway")


async def call_worker(
    worker: str, call: Call, arrays: Mapping[str, Array], facts: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Send one block to a worker and read its answer.

    Workers compute pure functions, so a call that a dying worker dropped is repeated; the
    repetition waits in the socket's queue until the worker is back. Before it there is a pause, in
    which the other connections to the dead worker are found to be dead too.

    Raises:
        BandstandError: what the worker refused with.
        UnavailableError: the worker cannot be reached, or died again and again over this call.
    """
    block = pack(arrays, {**facts, "request_id": request_id.get()})
    for pause in (*PAUSES_SECONDS, None):
        try:
            answer = await call(block)
            break
        except (aiohttp.ClientError, ConnectionError, TimeoutError, BentoMLException) as error:
            if pause is None or not isinstance(error, _DROPPED):
                logger.warning("the %s is not available: %r", worker, error)
                raise UnavailableError(
                    f"the {worker} is not available", retry_after=RETRY_AFTER_SECONDS
                ) from error
            RETRIES.labels(worker).inc()
            await asyncio.sleep(pause)
    outputs, answered = unpack(answer)
    if "error" in answered:
        raise BandstandError.from_fields(answered["error"])
    return outputs, answered


class FeatureCache:
    """The most recently used prepared recordings, by content and card; bounded."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[tuple[str, str], Prepared] = OrderedDict()

    @property
    def enabled(self) -> bool:
        """Whether anything is kept at all."""
        return self._entries > 0

    def get(self, key: tuple[str, str]) -> Prepared | None:
        """Return what is kept under `key`, and count the lookup."""
        found = self._kept.get(key)
        CACHE_LOOKUPS.labels("hit" if found else "miss").inc()
        if found:
            self._kept.move_to_end(key)
        return found

    def put(self, key: tuple[str, str], prepared: Prepared) -> None:
        """Keep `prepared`, forgetting the one unused for longest if need be."""
        self._kept[key] = prepared
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)


async def _sha256(content: bytes) -> str:
    if len(content) <= _HASH_INLINE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())


class RemotePreparation:
    """Prepares recordings in the preprocessor; remembers features, which are small."""

    def __init__(
        self, worker: str, call: Call, cache: FeatureCache, *, hand_over: bool = False
    ) -> None:
        self._worker = worker
        self._call = call
        self._cache = cache
        self._hand_over = hand_over

    async def prepare(self, audio: bytes, card: Card) -> Prepared:
        """See `bandstand.pipelines.prepare.prepare`."""
        cached = self._cache.enabled and card.front_end.kind == "librosa_features"
        if not cached:
            return await self._compute(audio, card)
        key = (await _sha256(audio), card.input_facts().model_dump_json())
        prepared = self._cache.get(key)
        if prepared is None:
            prepared = await self._compute(audio, card)
            self._cache.put(key, prepared)
            return prepared
        return Prepared(
            prepared.inputs,
            prepared.starts_seconds,
            prepared.durations_seconds,
            prepared.audio,
            dict.fromkeys(prepared.timings_ms, 0.0),
        )

    async def _compute(self, audio: bytes, card: Card) -> Prepared:
        with stage("prepare"):
            card_facts = card.input_facts().model_dump(mode="json")
            arrays, facts = await self._send(audio, {"card": card_facts})
        for name, milliseconds in facts["timings_ms"].items():
            STAGE_SECONDS.labels(name).observe(milliseconds / 1e3)
        return Prepared(
            inputs={tensor.name: arrays[tensor.name] for tensor in card.inputs},
            starts_seconds=arrays["starts_seconds"],
            durations_seconds=arrays["durations_seconds"],
            audio=AudioMetadata(**facts["audio"]),
            timings_ms=facts["timings_ms"],
        )

    async def _send(self, audio: bytes, facts: Facts) -> tuple[Arrays, Facts]:
        """Hand the recording over where that is possible, else send it along."""
        if self._hand_over and len(audio) >= SMALLEST_BYTES:
            try:
                with handed_over(audio) as place:
                    return await call_worker(self._worker, self._call, {}, {**facts, **place})
            except (HandoverError, OSError) as error:
                logger.warning("recordings go through the socket from now on: %s", error)
                self._hand_over = False
        inline = {"audio": np.frombuffer(audio, np.uint8)}
        return await call_worker(self._worker, self._call, inline, facts)
