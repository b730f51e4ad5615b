"""A call of the HTTP API as a method of the sync and of the async client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from bandstand_client.calls import Call

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
T = TypeVar("T")


class Calls(Protocol):
    """A sync client."""

    def call(self, call: Call[T]) -> T:
        """Make one call."""
        ...


class CallsAsync(Protocol):
    """An asyncio client."""

    async def call(self, call: Call[T]) -> T:
        """Make one call."""
        ...


class Endpoint(Generic[P, T]):
    """A descriptor: as an attribute of a client it is the method for the call that `make`
    returns."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Calls, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: CallsAsync, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """Return the method of a client."""
        if client is None:
            return self

        @wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.call(self._make(*args, **kwargs))

        return method
