"""How long the supervisor waits before it replaces a process that has ended."""

from __future__ import annotations

SETTLED_SECONDS = 5.0
"""A process that was ready for so long is replaced at once."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


class RespawnPauses:
    """The pauses before the next processes of one service.

    A process that ends at once at every start would otherwise keep a core busy for ever: starting
    costs seconds of work. Each such end doubles the pause.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self._not_before = 0.0

    def ended(self, ready_seconds: float, now: float) -> float:
        """Note that a process has ended; return the pause before the next one, in seconds.

        Args:
            ready_seconds: how long it was ready; 0: it ended while it started.
            now: a monotonic time, in seconds.
        """
        if ready_seconds >= SETTLED_SECONDS:
            self._pause = 0.0
        else:
            longer = max(2 * self._pause, FIRST_PAUSE_SECONDS)
            self._pause = min(longer, LONGEST_PAUSE_SECONDS)
        self._not_before = now + self._pause
        return self._pause

    def may_start(self, now: float) -> bool:
        """Return whether the pause is over."""
        return now >= self._not_before
