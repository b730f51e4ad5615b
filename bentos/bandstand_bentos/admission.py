"""Admission: limits the requests in progress and in the queue, and the bytes of their bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from bandstand.errors import OverloadedError
from bandstand.fair_shares import FairShares, Groups, Limit
from bandstand.settings import Settings
from bandstand.telemetry import IN_FLIGHT, QUEUED, stage
from bandstand_bentos.body_bytes import BodyBytes
from bandstand_bentos.shares import share_of

_RETRY_AFTER_SECONDS = 1.0

_CLIENT, _MODEL, _CLIENTS_MODEL = "client", "model", "client and model"


class Admission:
    """Refuses a request with 429, before its body is read, when the queue is full.

    A client has a share of the places, of the queue and of the bytes. A model has a share of the
    places and of the queue, and of what a client has: when a model does not answer, requests that
    use another one still are.

    Args:
        settings: the limits and shares.
    """

    def __init__(self, settings: Settings) -> None:
        in_flight, queued = settings.max_in_flight, settings.max_queued
        of_client = Limit(
            share_of(in_flight, settings.client_share), share_of(queued, settings.client_share)
        )
        self._capacity = in_flight + queued
        self._capacity_of_client = of_client.held + (of_client.waiting or 0)
        self._inside: Counter[str] = Counter()
        self._places = FairShares(
            in_flight,
            {
                # A client's queue is limited before its bodies are read, by `entered`.
                _CLIENT: Limit(of_client.held),
                _MODEL: _share_of(Limit(in_flight, queued), settings.model_share),
                _CLIENTS_MODEL: _share_of(of_client, settings.model_share),
            },
        )
        bytes_of_client = share_of(settings.max_body_bytes, settings.client_share)
        self._bytes = FairShares(
            settings.max_body_bytes,
            {_CLIENT: Limit(max(bytes_of_client, settings.max_upload_bytes))},
        )

    @contextmanager
    def entered(self, client: str) -> Iterator[BodyBytes]:
        """Count a request as received for as long as the block runs; give what its body may hold.

        Raises:
            OverloadedError: the queue is full, or the client's share of it.
        """
        inside = self._inside.total()
        own = self._inside[client]
        if inside >= self._capacity or own >= self._capacity_of_client:
            raise OverloadedError(
                f"{inside} requests are in progress or in the queue, {own} of them of this client",
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self._inside[client] += 1
        body = BodyBytes(self._bytes, ((_CLIENT, client),))
        try:
            yield body
        finally:
            body.shrink_to(0)
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]

    @asynccontextmanager
    async def turn(
        self, client: str = "", model: str | None = None, turns: int = 1
    ) -> AsyncIterator[None]:
        """Wait until a request may start; hold its turn for as long as the block runs.

        Args:
            client: whose request it is.
            model: the model that it uses; None: none.
            turns: the number of requests that it counts as; at most what is possible is taken.

        Raises:
            OverloadedError: too many requests wait for the same model.
        """
        groups = _groups(client, model)
        QUEUED.inc()
        try:
            with stage("queue"):
                taken = await self._places.take(turns, groups)
        finally:
            QUEUED.dec()
        IN_FLIGHT.inc()
        try:
            yield
        finally:
            IN_FLIGHT.dec()
            self._places.give_back(taken, groups)


def _groups(client: str, model: str | None) -> Groups:
    if model is None:
        return ((_CLIENT, client),)
    return ((_CLIENT, client), (_MODEL, model), (_CLIENTS_MODEL, f"{client} {model}"))


def _share_of(limit: Limit, share: float) -> Limit:
    """Return a share of a limit; at least one request may wait."""
    return Limit(share_of(limit.held, share), max(1, share_of(limit.waiting or 0, share)))
