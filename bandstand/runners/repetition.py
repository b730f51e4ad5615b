"""How often, and after which pauses, a call that a dying process dropped is made again.

Models and preparation are pure functions, so a repetition is safe. Its number is bounded: what is
gone for longer is said to be gone, with a time after which asking again makes sense.
"""

from __future__ import annotations

PAUSES_SECONDS = (0.1, 0.5)
"""Before each repetition; in a pause the other connections are found to be dead too."""

RETRY_AFTER_SECONDS = 2.0
"""What a caller is told when the repetitions failed as well."""
