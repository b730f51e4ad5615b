"""Declarations of operations on audio, their options and their answers."""

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
"""For pydantic: docstrings of attributes are their descriptions."""
SCHEMA_OF_OPTIONS: dict[str, Any] = {"extra": "forbid"}
"""For pydantic: undeclared options are refused."""


@dataclass(frozen=True, slots=True)
class Option:
    """Description and bounds of an option, in the option's `Annotated` type.

    Attributes:
        meaning: the description in OpenAPI and in `--help`.
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
        """Give the bounds to pydantic, without an import of pydantic."""
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
    """Bounds of a number in an answer, in the number's `Annotated` type."""

    least: float
    most: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Give the bounds to pydantic, without an import of pydantic."""
        return {**handler(source), "ge": self.least, "le": self.most}


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of an operation that has none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_OPTIONS


@dataclass(frozen=True, eq=False)
class Operation(Generic[P, A]):
    """One function of a server for recordings.

    As an attribute of a client it is that client's method: `client.classify("a.mp3", top_k=2)`.

    Attributes:
        name: of the clients' method.
        path: of the HTTP route, which takes POST.
        triton_model: its model on Triton.
        command: of the command line.
        options: a frozen keyword-only dataclass; its fields are the options, over HTTP, gRPC, in
            Python and (by their flags) on the command line.
        answer: a frozen dataclass.
        summary: one line that describes it.
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
        """Return the method of a client that calls this operation."""
        if client is None:
            return self
        return (AsyncMethod if client.is_async else Method)(self, client)


class Answers(Protocol):
    """A sync client."""

    is_async: ClassVar[bool] = False

    def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """Call one operation.

        Args:
            operation: the operation to call.
            audio: its input.
            options: the given options; the server has defaults for the others.
        """
        ...


class AnswersAsync(Protocol):
    """An asyncio client; otherwise like `Answers`."""

    is_async: ClassVar[bool] = True

    async def answer(
        self, operation: Operation[..., A], audio: Audio, options: Mapping[str, object]
    ) -> A:
        """See `Answers.answer`."""
        ...


class _Bound(Generic[P, A]):
    """An operation with the client that calls it."""

    def __init__(self, operation: Operation[P, A], client: Any) -> None:
        self._operation = operation
        self._client = client
        self.__doc__ = operation.summary

    def _checked(self, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return the given options.

        Raises:
            TypeError: the operation has no such option.
        """
        self._operation.options(**given)  # type: ignore[call-arg,arg-type]
        return given


class Method(_Bound[P, A]):
    """A client's method; its keyword arguments are the operation's options."""

    def __call__(self, audio: Audio, /, *args: P.args, **options: P.kwargs) -> A:
        """Call the operation with `audio`.

        Raises:
            BandstandClientError: the call failed; the class gives the kind of failure.
            OSError: a file that cannot be read.
            TypeError: an option that the operation does not have.
        """
        answer: A = self._client.answer(self._operation, audio, self._checked(options))
        return answer


class AsyncMethod(_Bound[P, A]):
    """The same for asyncio."""

    async def __call__(self, audio: Audio, /, *args: P.args, **options: P.kwargs) -> A:
        """Call the operation with `audio`; see `Method.__call__`."""
        answer: A = await self._client.answer(self._operation, audio, self._checked(options))
        return answer

    async def many(
        self,
        audios: Iterable[Item] | AsyncIterable[Item],
        concurrency: int = 8,
        *args: P.args,
        **options: P.kwargs,
    ) -> AsyncGenerator[tuple[Item, A | BandstandClientError | OSError], None]:
        """Call the operation with many recordings; yield each with its answer or its error.

        They are yielded as they finish, with `concurrency` calls in flight. `audios` is read as
        needed, so it can be infinite. Leaving the loop cancels the calls in flight.
        """

        async def one(audio: Item) -> A:
            return await self(audio, *args, **options)

        async with aclosing(outcomes(one, audios, concurrency)) as finished:
            async for audio, outcome in finished:
                yield audio, outcome
