"""Calls of workers from the gateway, so that pipelines are independent of processes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np

from bandstand.errors import BandstandError, UnavailableError
from bandstand.models.card import Card, InputSpecification
from bandstand.pipelines.prepare import HOST_FRONT_ENDS, specifications
from bandstand.pipelines.prepared import STAGES, PreparedRecording, PreparedRows
from bandstand.runners.base import Array
from bandstand.runners.repetition import PAUSES_SECONDS, RETRY_AFTER_SECONDS
from bandstand.runners.wire import pack, unpack
from bandstand.telemetry import CACHE_LOOKUPS, RETRIES, STAGE_SECONDS, client, request_id, stage
from bandstand_bentos.handover import SMALLEST_BYTES, HandoverError, handed_over
from bandstand_bentos.prepared_block import from_block
from bandstand_bentos.seam import FAILED_CALLS, LOST_ANSWERS
from bandstand_bentos.worker import Arrays, Metadata
from bandstand_client.contract.shared import AudioMetadata

# Hashing releases the interpreter lock; below this it is not worth a thread.
_HASH_INLINE_BYTES = 4 * 1024 * 1024
# A lack of descriptors or memory passes. Where the worker can never read the gateway's memory, one
# failed try a minute costs nothing.
_PAUSE_AFTER_FAILED_HANDOVER_SECONDS = 60.0

Call = Callable[[bytes], Awaitable[bytes]]

logger = logging.getLogger("bandstand.gateway")


async def call_worker(
    worker: str, call: Call, arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Send one block to a worker and read its answer.

    Workers compute pure functions, so the gateway repeats a call whose worker died. The repeated
    call waits in the socket's queue until the worker has been replaced. It follows after a pause,
    in which the client finds and closes the other connections to the dead worker.

    Raises:
        BandstandError: the worker refused the call.
        UnavailableError: the worker cannot be reached, or died in each repetition of this call.
    """
    block = pack(arrays, {**metadata, "request_id": request_id.get(), "client": client.get()})
    for pause in (*PAUSES_SECONDS, None):
        try:
            answer = await call(block)
            break
        except FAILED_CALLS as error:
            if pause is None or not isinstance(error, LOST_ANSWERS):
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


@dataclass(frozen=True, slots=True)
class CachedFeatures:
    """Features of one recording, and its metadata."""

    features: PreparedRows
    audio: AudioMetadata


class FeatureCache:
    """A cache of the most recently used features, by content hash and `InputSpecification.key`."""

    def __init__(self, entries: int) -> None:
        self._max_entries = entries
        self._cached: OrderedDict[tuple[str, str], CachedFeatures] = OrderedDict()

    @property
    def enabled(self) -> bool:
        """Whether the cache has any capacity."""
        return self._max_entries > 0

    def get(self, key: tuple[str, str]) -> CachedFeatures | None:
        """Return the features under `key`, or None, and count the lookup."""
        found = self._cached.get(key)
        CACHE_LOOKUPS.labels("hit" if found else "miss").inc()
        if found:
            self._cached.move_to_end(key)
        return found

    def put(self, key: tuple[str, str], features: PreparedRows, audio: AudioMetadata) -> None:
        """Store a copy of `features`; when the cache is full, remove those unused for longest."""
        # The arrays are views of the whole answer: a view would keep all of it in memory. Times are
        # zero, because features from the cache take none.
        copy = PreparedRows(
            features.rows.copy(),
            features.starts_seconds.copy(),
            features.durations_seconds.copy(),
            timings_ms=dict.fromkeys(STAGES, 0.0),
        )
        self._cached[key] = CachedFeatures(copy, audio)
        self._cached.move_to_end(key)
        while len(self._cached) > self._max_entries:
            self._cached.popitem(last=False)


async def _sha256(content: bytes) -> str:
    if len(content) <= _HASH_INLINE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())


class RemotePreparation:
    """Prepares recordings in the preprocessor; caches features, which are small."""

    def __init__(
        self, worker: str, call: Call, cache: FeatureCache, *, hand_over: bool = False
    ) -> None:
        self._worker = worker
        self._call = call
        self._cache = cache
        self._hand_over = hand_over
        self._no_handover_before = 0.0

    async def prepare(self, audio: bytes, cards: Iterable[Card]) -> PreparedRecording:
        """See `bandstand.pipelines.prepare.prepare`; one call computes what is not cached."""
        wanted = specifications(cards)
        of_cache = [key for key, each in wanted.items() if self._may_cache(each)]
        sha256 = await _sha256(audio) if of_cache else ""
        found = {key: self._cache.get((sha256, key)) for key in of_cache}
        kept = {key: features for key, features in found.items() if features is not None}
        missing = [each for key, each in wanted.items() if key not in kept]
        parts: dict[str, PreparedRows | BandstandError]
        parts = {key: each.features for key, each in kept.items()}
        if kept and not missing:
            metadata = next(iter(kept.values())).audio
            return PreparedRecording(metadata, parts, dict.fromkeys(STAGES, 0.0))
        computed = await self._compute(audio, missing)
        for key in of_cache:
            features = computed.parts.get(key)
            if isinstance(features, PreparedRows):
                self._cache.put((sha256, key), features, computed.audio)
        return replace(computed, parts={**parts, **computed.parts})

    def _may_cache(self, wanted: InputSpecification) -> bool:
        return self._cache.enabled and wanted.front_end.kind in HOST_FRONT_ENDS

    async def _compute(
        self, audio: bytes, wanted: Sequence[InputSpecification]
    ) -> PreparedRecording:
        with stage("prepare"):
            asked = {"wanted": [each.model_dump(mode="json") for each in wanted]}
            arrays, metadata = await self._send(audio, asked)
        prepared = from_block(arrays, metadata, wanted)
        for name, milliseconds in prepared.timings_ms.items():
            STAGE_SECONDS.labels(name).observe(milliseconds / 1e3)
        return prepared

    def _may_hand_over(self) -> bool:
        return self._hand_over and monotonic() >= self._no_handover_before

    async def _send(self, audio: bytes, metadata: Metadata) -> tuple[Arrays, Metadata]:
        """Send the recording in shared memory if that is possible, else through the socket."""
        if self._may_hand_over() and len(audio) >= SMALLEST_BYTES:
            try:
                with handed_over(audio) as place:
                    return await call_worker(self._worker, self._call, {}, {**metadata, **place})
            except (HandoverError, OSError) as error:
                self._no_handover_before = monotonic() + _PAUSE_AFTER_FAILED_HANDOVER_SECONDS
                logger.warning(
                    "recordings are sent through the socket for %g s: %s",
                    _PAUSE_AFTER_FAILED_HANDOVER_SECONDS,
                    error,
                )
        inline = {"audio": np.frombuffer(audio, np.uint8)}
        return await call_worker(self._worker, self._call, inline, metadata)
