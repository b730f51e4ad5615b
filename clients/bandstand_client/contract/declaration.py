"""How an operation on audio, its options and its answer are declared."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    ClassVar,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from bandstand_client.concurrency import outcomes
from bandstand_client.errors import BandstandClientError

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
A = TypeVar("A")
Item = TypeVar("Item", bound="bytes | Path | str | BinaryIO")

Audio = bytes | Path | str | BinaryIO
"""Encoded audio: its bytes, the path of a file, an open binary file, or an http(s) address that the
server fetches."""

SCHEMA_OF_ANSWERS: dict[str, Any] = {"use_attribute_docstrings": True}
"""For pydantic, where it is there: docstrings of attributes are their descriptions."""
SCHEMA_OF_OPTIONS: dict[str, Any] = {"extra": "forbid"}
"""For pydantic: an option that is not declared is refused."""


@dataclass(frozen=True, slots=True)
class Option:
    """What an option means and which values it takes; it stands in the option's `Annotated` type.

    Attributes:
        meaning: for people, in OpenAPI and in `--help`.
        least: smallest number.
        most: largest number.
        longest: most characters of a text.
        flags: of the command line; none: `--` and the option's name.
    """

    meaning: str
    least: float | None = None
    most: float | None = None
    longest: int | None = None
    flags: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Hand the bounds to pydantic, which is not imported for that."""
        schema = handler(source)
        inner = schema["schema"] if schema["type"] == "nullable" else schema
        bounds = {"ge": self.least, "le": self.most, "max_length": self.longest}
        inner.update({name: bound for name, bound in bounds.items() if bound is not None})
        if inner["type"] == "float":
            inner["allow_inf_nan"] = False
        return schema

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        """Describe the option in JSON Schema, hence in OpenAPI."""
        return {**handler(schema), "description": self.meaning}


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number in an answer; it stands in the number's `Annotated` type."""

    least: float
    most: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Hand the bounds to pydantic, which is not imported for that."""
        return {**handler(source), "ge": self.least, "le": self.most}


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of an operation that has none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_OPTIONS


@dataclass(frozen=True, eq=False)
class Operation(Generic[P, A]):
    """One thing that a server answers about a recording.

    As an attribute of a client it is that client's method: `client.classify("a.mp3", top_k=2)`.

    Attributes:
        name: of the clients' method.
        path: of the HTTP route, which takes POST.
        triton_model: the model that answers it over gRPC.
        command: of the command line.
        options: a frozen keyword-only dataclass; its fields are the options, over HTTP, gRPC, in
            Python and (by their flags) on the command line.
        answer: a frozen dataclass.
        summary: what it does, in one line.
    """

    name: str
    path: str
    triton_model: str
    command: str
    options: Callable[P, object]
    answer: type[A]
    summary: str

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Answers, owner: type) -> Method[P, A]: ...
    @overload
    def __get__(self, client: AnswersAsync, owner: type) -> AsyncMethod[P, A]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """Return the method of a client that asks for this operation."""
        if client is None:
            return self
        return (AsyncMethod if client.is_async else Method)(self, client)


class Answers(Protocol):
    """A client that waits for its answers."""

    is_async: ClassVar[bool] = False

    def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """Ask for one operation.

        Args:
            operation: which.
            audio: about what.
            options: those that were given; the server knows the others' defaults.
        """
        ...


class AnswersAsync(Protocol):
    """A client for asyncio; `Answers` otherwise."""

    is_async: ClassVar[bool] = True

    async def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """See `Answers.answer`."""
        ...


class _Bound(Generic[P, A]):
    """An operation with the client that asks for it."""

    def __init__(self, operation: Operation[P, A], client: Any) -> None:
        self._operation = operation
        self._client = client
        self.__doc__ = operation.summary

    def _checked(self, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return the options that were given.

        Raises:
            TypeError: the operation has no such option.
        """
        self._operation.options(**given)  # type: ignore[call-arg,arg-type]
        return given


class Method(_Bound[P, A]):
    """A client's method; its keyword arguments are the operation's options."""

    def __call__(self, audio: Audio, /, *args: P.args, **options: P.kwargs) -> A:
        """Ask about `audio`.

        Raises:
            BandstandClientError: what went wrong, by its class.
            OSError: a file that cannot be read.
            TypeError: an option that the operation does not have.
        """
        answer: A = self._client.answer(self._operation, audio, self._checked(options))
        return answer


class AsyncMethod(_Bound[P, A]):
    """The same for asyncio."""

    async def __call__(self, audio: Audio, /, *args: P.args, **options: P.kwargs) -> A:
        """Ask about `audio`; see `Method.__call__`."""
        answer: A = await self._client.answer(self._operation, audio, self._checked(options))
        return answer

    async def many(
        self,
        audios: Iterable[Item] | AsyncIterable[Item],
        concurrency: int = 8,
        *args: P.args,
        **options: P.kwargs,
    ) -> AsyncGenerator[tuple[Item, A | BandstandClientError | OSError], None]:
        """Ask about many recordings, yielding each with its answer or its error.

        They come in the order in which they finish, `concurrency` of them in flight; `audios` is
        read as they do, and may be endless. Leaving the loop cancels what is in flight.
        """

        async def one(audio: Item) -> A:
            return await self(audio, *args, **options)

        async with aclosing(outcomes(one, audios, concurrency)) as finished:
            async for audio, outcome in finished:
                yield audio, outcome
