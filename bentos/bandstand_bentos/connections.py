"""The gateway's connections: how many there are, of which clients, and which make room."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from bandstand_bentos.shares import share_of

RESERVED = 16
"""Connections above `max_connections`, on which only health and metrics are answered."""


class Connection(Hashable, Protocol):
    """A connection that can be closed while it has no request in progress."""

    def make_room(self) -> None:
        """Close it at once; it has left its places."""
        ...


@dataclass(slots=True)
class _Client:
    """The connections of one client; those without a request in progress in order of age."""

    open: int = 0
    idle: dict[Connection, None] = field(default_factory=dict)


class Connections:
    """A bounded number of connections; idle ones are closed to make room.

    At the bound, a new connection takes the place of the oldest idle one of the client that has the
    most connections. A client that has its share takes the place of one of its own.

    Args:
        most: connections at the same time.
        client_share: part of them that one client may have.
    """

    def __init__(self, most: int, client_share: float) -> None:
        self._most = most
        self._most_of_a_client = share_of(most, client_share)
        self._clients: dict[str, _Client] = {}
        self._open = 0

    def __len__(self) -> int:
        return self._open

    def enter(self, connection: Connection, client: str) -> bool:
        """Count a new connection as idle; return False if there is no room for it."""
        own = self._clients.get(client)
        if own is not None and own.open >= self._most_of_a_client:
            if not self._close_idle(client):
                return False
        elif self._open >= self._most and not self._close_idle(self._largest()):
            return False
        entry = self._clients.setdefault(client, _Client())
        entry.open += 1
        entry.idle[connection] = None
        self._open += 1
        return True

    def busy(self, connection: Connection, client: str) -> None:
        """A request of this connection is in progress."""
        self._clients[client].idle.pop(connection, None)

    def idle(self, connection: Connection, client: str) -> None:
        """No request of this connection is in progress any more."""
        self._clients[client].idle[connection] = None

    def leave(self, connection: Connection, client: str) -> None:
        """The connection is closed."""
        entry = self._clients[client]
        entry.idle.pop(connection, None)
        entry.open -= 1
        self._open -= 1
        if entry.open == 0:
            del self._clients[client]

    def _largest(self) -> str | None:
        """Return the client with the most connections among those with an idle one."""
        idle = ((entry.open, client) for client, entry in self._clients.items() if entry.idle)
        return max(idle, default=(0, None))[1]

    def _close_idle(self, client: str | None) -> bool:
        """Close the oldest idle connection of a client; return whether there was one."""
        if client is None or not (idle := self._clients[client].idle):
            return False
        oldest = next(iter(idle))
        self.leave(oldest, client)
        oldest.make_room()
        return True
