"""Retries, pauses and time limits of a call."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bandstand_client.errors import (
    BandstandClientError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
)

CONNECTION_CUT = "connection_cut"
"""`error_type` of an interrupted answer: the server answered, so the call is not repeated."""

_MOST_DOUBLINGS = 32  # far above any longest pause, far below where a float overflows


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. The defaults are longer than the server's deadline (60), to receive its answer.

    Attributes:
        connect: to open a connection.
        read: between two parts of the answer, and until its first part.
        total: for one call with all tries, pauses and transfers.
    """

    connect: float = 5.0
    read: float = 75.0
    total: float = 150.0

    def __post_init__(self) -> None:
        if not all(seconds > 0 for seconds in (self.connect, self.read, self.total)):
            raise ValueError(f"timeouts must be above zero: {self}")

    @classmethod
    def of(cls, timeout: Timeouts | float) -> Timeouts:
        """Return `timeout` itself, or one number of seconds as the limit of the whole call."""
        if isinstance(timeout, Timeouts):
            return timeout
        return cls(connect=min(cls().connect, timeout), read=timeout, total=timeout)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Rules for retries: all calls are pure, so every call without an answer can be repeated.

    These are connections that were refused or lost before an answer began, 429 and 503. A call is
    not repeated after a read timeout: the server may still compute it, and would get more work.

    Attributes:
        retries: tries after the first.
        first_pause: upper bound of the first pause in seconds; it doubles with each further one.
        longest_pause: upper bound of any pause that the server did not ask for.
    """

    retries: int = 2
    first_pause: float = 0.25
    longest_pause: float = 8.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries must not be negative: {self.retries}")

    def pause(self, attempt: int) -> float:
        """Return a random pause after try number `attempt` (from 0), with full jitter."""
        bound = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt, _MOST_DOUBLINGS))
        return random.uniform(0.0, bound)  # noqa: S311 (no secret depends on it)


class Attempts:
    """The tries of one call: the time left, and the decision to try again."""

    def __init__(
        self,
        policy: RetryPolicy,
        timeouts: Timeouts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._timeouts = timeouts
        self._clock = clock
        self._deadline = clock() + timeouts.total
        self._made = 0
        self._said: BandstandClientError | None = None

    def remaining(self) -> float:
        """Return the seconds left for the whole call.

        Raises:
            DeadlineError: no time is left.
        """
        left = self._deadline - self._clock()
        if left <= 0:
            raise self.out_of_time()
        return left

    def out_of_time(self) -> DeadlineError:
        """Return the error of a call whose time is over."""
        seconds = self._timeouts.total
        return DeadlineError(f"no answer within {seconds:g} s", error_type="client_timeout")

    def pause_before_next(self, error: BandstandClientError) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            BandstandClientError: there is no next try. It is `error`, or the server's error before
                it if `error` only means that the call's time is over.
        """
        if self._said is not None and self._clock() >= self._deadline:
            raise self._said from error
        self._said = error
        pause = (error.retry_after or 0.0) + self._policy.pause(self._made)
        self._made += 1
        out_of_tries = self._made > self._policy.retries
        too_late = self._clock() + pause >= self._deadline
        if not may_retry(error) or out_of_tries or too_late:
            raise error
        return pause


def may_retry(error: BandstandClientError) -> bool:
    """Whether the server has not answered and can answer a later try."""
    if isinstance(error, UnavailableError):
        return error.error_type != CONNECTION_CUT
    return isinstance(error, OverloadedError)


def parse_retry_after(value: str | None) -> float | None:
    """Return a Retry-After header (seconds or an HTTP date) as seconds; None if it is neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
