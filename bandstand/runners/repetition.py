"""How often, and after which pauses, a call is repeated whose process died.

Models and preparation are pure functions, so a call may be repeated. After the last repetition the
caller gets an error, with the time after which it may try again.
"""

from __future__ import annotations

PAUSES_SECONDS = (0.1, 0.5)
"""Before each repetition. In a pause the client closes the other connections to the process."""

RETRY_AFTER_SECONDS = 2.0
"""The `Retry-After` of the error after the last repetition."""
