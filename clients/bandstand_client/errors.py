"""The errors of the clients: one class for each kind of failure."""

from __future__ import annotations


class BandstandClientError(Exception):
    """Base of all errors of the clients.

    Attributes:
        message: for people.
        status: HTTP status of the response; None if there was none.
        error_type: a stable name, the server's if it sent one.
        request_id: the id of the request in the server's logs.
        retry_after: seconds that the server asks to wait before another try.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        error_type: str = "client_error",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.error_type = error_type
        self.request_id = request_id
        self.retry_after = retry_after


class RefusedError(BandstandClientError):
    """A refusal (4xx) without a class of its own, such as a model that is not installed (409)."""


class AuthenticationError(BandstandClientError):
    """The request has no valid key, or is not allowed (401, 403)."""


class NotFoundError(BandstandClientError):
    """No such model or path (404)."""


class TooLargeError(BandstandClientError):
    """More bytes or more seconds of audio than the server accepts (413)."""


class InvalidAudioError(BandstandClientError):
    """The content is not audio (415), or audio that cannot be used (422)."""


class OverloadedError(BandstandClientError):
    """The server accepts no more requests at the moment (429)."""


class ServerError(BandstandClientError):
    """The server failed (5xx), or its response is not from Bandstand."""


class UnavailableError(BandstandClientError):
    """No server, or one that is not ready: 503, no connection, or a lost connection."""


class DeadlineError(BandstandClientError):
    """No answer in time: the server's deadline (504), or this client's own."""


_BY_STATUS: dict[int, type[BandstandClientError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    413: TooLargeError,
    415: InvalidAudioError,
    422: InvalidAudioError,
    429: OverloadedError,
    503: UnavailableError,
    504: DeadlineError,
}
_FIRST_REFUSAL, _FIRST_FAILURE = 400, 500


def error_class(status: int) -> type[BandstandClientError]:
    """Return the error class of an HTTP status."""
    if _FIRST_REFUSAL <= status < _FIRST_FAILURE:
        return _BY_STATUS.get(status, RefusedError)
    return _BY_STATUS.get(status, ServerError)
