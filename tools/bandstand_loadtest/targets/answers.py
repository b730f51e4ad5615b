"""Conversion of the clients' answers and errors for a load test."""

from __future__ import annotations

from bandstand_client.contract.genre import GenreAnswer
from bandstand_client.errors import BandstandClientError
from bandstand_loadtest.targets.base import Answer, RequestFailedError


def answer_of(result: GenreAnswer) -> Answer:
    """Return the load test's form of a client's answer."""
    versions = [member.version for member in result.members if member.model == result.method]
    return Answer(
        primary=result.primary_genre,
        scores=result.all_scores,
        timings_ms=result.timings_ms,
        version=versions[0] if versions else None,
    )


def failed(error: BandstandClientError) -> RequestFailedError:
    """Return the load test's error for a client's error; raise it from that one."""
    return RequestFailedError(error.message, error.error_type)
