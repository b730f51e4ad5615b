"""What clients answer and raise, as a load test sees it."""

from __future__ import annotations

from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import BandstandClientError
from bandstand_loadtest.targets.base import Answer, RequestFailedError


def answer_of(result: GenreAnswer) -> Answer:
    """Return what a load test looks at."""
    versions = [member.version for member in result.members if member.model == result.method]
    return Answer(
        primary=result.primary_genre,
        scores=result.all_scores,
        timings_ms=result.timings_ms,
        version=versions[0] if versions else None,
    )


def failed(error: BandstandClientError) -> RequestFailedError:
    """Return the load test's name for a client's error, which is to be its cause."""
    return RequestFailedError(error.message, error.error_type)
