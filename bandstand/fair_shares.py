"""Gives out a bounded quantity, places or bytes, in an order that is fair to clients and models."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from bandstand.errors import OverloadedError

_RETRY_AFTER_SECONDS = 1.0

Group = tuple[str, str]
"""A kind, such as `client`, and a name."""
Groups = tuple[Group, ...]
"""All that one request belongs to; turns go round those that come first, the clients."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the requests of one group may have together; `waiting` None: there is no limit."""

    held: int
    waiting: int | None = None


@dataclass(eq=False, slots=True)
class _Waiter:
    amount: int
    number: int
    given: asyncio.Future[None]


@dataclass(eq=False, slots=True)
class _Lines:
    """The waiting requests of one client, by their groups: each line in order of arrival."""

    by_groups: dict[Groups, deque[_Waiter]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Groups, _Waiter]]:
        """Give the first of each line, in order of arrival."""
        heads = ((groups, line[0]) for groups, line in self.by_groups.items())
        return iter(sorted(heads, key=lambda head: head[1].number))

    def add(self, groups: Groups, waiter: _Waiter) -> None:
        self.by_groups.setdefault(groups, deque()).append(waiter)

    def remove(self, groups: Groups, waiter: _Waiter) -> None:
        line = self.by_groups[groups]
        line.remove(waiter)
        if not line:
            del self.by_groups[groups]


class FairShares:
    """A bounded quantity that requests hold for a time.

    Waiting requests are served in turn by client, those of one client in order of arrival. One that
    would exceed the limit of one of its groups lets others pass, but none that waits for the same.
    One that only waits until enough is free lets none pass.

    Args:
        total: the whole quantity.
        limits: of each group, by its kind; other kinds have none.
    """

    def __init__(self, total: int, limits: Mapping[str, Limit]) -> None:
        self._total = self._free = total
        self._limits = limits
        self._held: Counter[Group] = Counter()
        self._waiting: Counter[Group] = Counter()
        self._clients: OrderedDict[Group, _Lines] = OrderedDict()
        self._numbers = count()

    @property
    def held(self) -> int:
        """How much requests hold together."""
        return self._total - self._free

    def most(self, amount: int, groups: Groups) -> int:
        """Return `amount`, or the most that a request of these groups can ever get."""
        limits = (self._limits[kind].held for kind, _ in groups if kind in self._limits)
        return min(amount, self._total, *limits)

    def take_now(self, amount: int, groups: Groups) -> bool:
        """Take more for a request that already has some; return False if that is not possible."""
        if amount > self._free or self._over(amount, groups) is not None:
            return False
        self._give_out(amount, groups)
        return True

    async def take(self, amount: int, groups: Groups) -> int:
        """Wait for `amount`, or for the most that is possible; return how much it is.

        Raises:
            OverloadedError: as many requests of one of its groups already wait as may.
        """
        amount = self.most(amount, groups)
        if not self._clients and self.take_now(amount, groups):
            return amount
        waiter = _Waiter(amount, next(self._numbers), asyncio.get_running_loop().create_future())
        self._add(waiter, groups)
        self._serve()
        if not waiter.given.done():
            self._check_length(waiter, groups)
        try:
            await waiter.given
        except BaseException:
            if waiter.given.cancelled():
                self._remove(waiter, groups)
                self._serve()  # it may have been in the way of others
            else:
                self.give_back(amount, groups)
            raise
        return amount

    def give_back(self, amount: int, groups: Groups) -> None:
        """Return what a request has taken, or a part of it."""
        self._free += amount
        for group in groups:
            self._held[group] -= amount
            if not self._held[group]:
                del self._held[group]
        self._serve()

    def _give_out(self, amount: int, groups: Groups) -> None:
        self._free -= amount
        for group in groups:
            self._held[group] += amount

    def _over(self, amount: int, groups: Groups) -> Group | None:
        """Return the first group that would exceed its limit."""
        for group in groups:
            limit = self._limits.get(group[0])
            if limit is not None and self._held[group] + amount > limit.held:
                return group
        return None

    def _add(self, waiter: _Waiter, groups: Groups) -> None:
        self._clients.setdefault(groups[0], _Lines()).add(groups, waiter)
        self._waiting.update(groups)

    def _remove(self, waiter: _Waiter, groups: Groups) -> None:
        lines = self._clients[groups[0]]
        lines.remove(groups, waiter)
        if not lines.by_groups:
            del self._clients[groups[0]]
        for group in groups:
            self._waiting[group] -= 1
            if not self._waiting[group]:
                del self._waiting[group]

    def _check_length(self, waiter: _Waiter, groups: Groups) -> None:
        """Remove a new request, and refuse it, if too many of a group wait."""
        for group in groups:
            limit = self._limits.get(group[0])
            if limit is None or limit.waiting is None or self._waiting[group] <= limit.waiting:
                continue
            self._remove(waiter, groups)
            raise OverloadedError(
                f"{limit.waiting} requests of the same {group[0]} are already waiting",
                retry_after=_RETRY_AFTER_SECONDS,
            )

    def _serve(self) -> None:
        while (served := self._next()) is not None:
            groups, waiter = served
            self._remove(waiter, groups)
            if groups[0] in self._clients:
                self._clients.move_to_end(groups[0])
            self._give_out(waiter.amount, groups)
            waiter.given.set_result(None)

    def _next(self) -> tuple[Groups, _Waiter] | None:
        """Return the request that is served next; None: all have to wait."""
        passed: set[Group] = set()  # the groups that a request in front waits for
        for lines in self._clients.values():
            for groups, waiter in lines:
                over = self._over(waiter.amount, groups)
                if over is not None:
                    passed.add(over)
                elif not passed.isdisjoint(groups):
                    continue
                elif waiter.amount > self._free:
                    return None
                else:
                    return groups, waiter
        return None
