"""A worker may die at any byte of its answer: the call is made again, a bounded number of times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from bandstand.errors import UnavailableError
from bandstand.runners.repetition import PAUSES_SECONDS
from bandstand.runners.wire import pack
from bandstand_bentos.remote import call_worker

_BODY = pack({"logits": np.arange(4, dtype=np.float32)}, {"version": 1})
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
_HEAD_ENDS = _ANSWER.index(b"\r\n\r\n") + 4


class DyingWorker:
    """Answers each connection with the next of `lengths` bytes of its answer, then hangs up."""

    def __init__(self, lengths: list[int]) -> None:
        self.asked = 0
        self._lengths = lengths

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_ANSWER[: self._lengths[self.asked]])
        self.asked += 1
        await writer.drain()
        writer.close()


async def _post(session: aiohttp.ClientSession, block: bytes) -> bytes:
    answer = await session.post("http://worker/infer", data=block)
    return await answer.read()


@asynccontextmanager
async def _connected(worker: DyingWorker, socket: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        await asyncio.start_unix_server(worker, socket),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session,
    ):
        yield session


@pytest.mark.parametrize("sent", [0, 10, _HEAD_ENDS, _HEAD_ENDS + 7, len(_ANSWER) - 1])
async def test_answer_cut_at_any_byte_is_asked_for_again(tmp_path: Path, sent: int) -> None:
    worker = DyingWorker([sent, len(_ANSWER)])
    async with _connected(worker, tmp_path / "s") as session:
        outputs, metadata = await call_worker("runner", partial(_post, session), {}, {})
    np.testing.assert_array_equal(outputs["logits"], np.arange(4, dtype=np.float32))
    assert metadata["version"] == 1
    assert worker.asked == 2


async def test_worker_that_dies_every_time_is_unavailable(tmp_path: Path) -> None:
    attempts = 1 + len(PAUSES_SECONDS)
    worker = DyingWorker([_HEAD_ENDS] * attempts)
    async with _connected(worker, tmp_path / "s") as session:
        with pytest.raises(UnavailableError, match="the runner is not available"):
            await call_worker("runner", partial(_post, session), {}, {})
    assert worker.asked == attempts
