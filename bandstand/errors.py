"""All refusals of Bandstand: each has a class, a documented HTTP status and a stable name.  Between
processes an error is sent as `ErrorAnswer` fields (`to_fields`, `from_fields`), so the client gets
the status and the message of an error that a worker raised.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict


class ErrorFields(TypedDict, total=False):
    """The wire form of an error: `error` is for people, `error_type` for programs."""

    error: str
    error_type: str
    retry_after: float


class BandstandError(Exception):
    """Base of all typed errors.

    Attributes:
        status: the HTTP status that documents this refusal.
        error_type: the stable name for clients.
        retry_after: seconds to wait before another try; None: another try is useless.
    """

    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "internal_error"
    registry: ClassVar[dict[str, type[BandstandError]]] = {}

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.error_type in BandstandError.registry:
            raise TypeError(f"two errors are called {cls.error_type!r}")
        BandstandError.registry[cls.error_type] = cls

    def to_fields(self) -> ErrorFields:
        """Return the wire form."""
        fields = ErrorFields(error=self.message, error_type=self.error_type)
        if self.retry_after is not None:
            fields["retry_after"] = self.retry_after
        return fields

    @staticmethod
    def from_fields(fields: ErrorFields) -> BandstandError:
        """Return the error that another process raised; an unknown name becomes an internal
        error."""
        kind = BandstandError.registry.get(fields.get("error_type", ""), BandstandError)
        return kind(fields.get("error", "unknown error"), retry_after=fields.get("retry_after"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (BandstandError.from_fields, (self.to_fields(),))


class MalformedRequestError(BandstandError):
    """The request cannot be parsed: no audio in it, a bad number, a broken multipart body."""

    status = 400
    error_type = "malformed_request"


class UnauthorizedError(BandstandError):
    """The request has no key, or a wrong one."""

    status = 401
    error_type = "unauthorized"


class ModelControlOffError(BandstandError):
    """This server refuses to change its models: no administrator's key is set, or Triton's is
    another one."""

    status = 403
    error_type = "model_control_off"


class AddressRefusedError(BandstandError):
    """A URL has an address that the server must not use: private, loopback or link-local."""

    status = 403
    error_type = "address_refused"


class AudioUrlOffError(BandstandError):
    """This server fetches no audio: it must be in the request."""

    status = 403
    error_type = "audio_url_off"


class ModelNotFoundError(BandstandError):
    """No card of that name."""

    status = 404
    error_type = "model_not_found"


class RouteNotFoundError(BandstandError):
    """No such path."""

    status = 404
    error_type = "not_found"


class MethodNotAllowedError(BandstandError):
    """The path exists, but not for this HTTP method."""

    status = 405
    error_type = "method_not_allowed"


class RequestTimeoutError(BandstandError):
    """The client sent its request too slowly."""

    status = 408
    error_type = "request_timeout"


class ModelNotInstalledError(BandstandError):
    """There is a card, but no installed version; the message has the command to install it."""

    status = 409
    error_type = "model_not_installed"


class ModelInUseError(BandstandError):
    """The request would remove a model that is in use or embedded."""

    status = 409
    error_type = "model_in_use"


class PayloadTooLargeError(BandstandError):
    """More bytes than the server accepts."""

    status = 413
    error_type = "payload_too_large"


class AudioTooLongError(BandstandError):
    """More seconds of audio than the server accepts; raised while decoding, not after."""

    status = 413
    error_type = "audio_too_long"


class UrlTooLongError(BandstandError):
    """The URL is longer than the server accepts."""

    status = 414
    error_type = "url_too_long"


class NotAudioError(BandstandError):
    """The content is not audio in a supported format; the file name does not matter."""

    status = 415
    error_type = "not_audio"


class EmptyAudioError(BandstandError):
    """Zero bytes, or a container without one sample."""

    status = 422
    error_type = "empty_audio"


class AudioTooShortError(BandstandError):
    """Fewer seconds than the model's minimum."""

    status = 422
    error_type = "audio_too_short"


class NoOnsetError(BandstandError):
    """No onset was found, and the model takes windows at onsets: it has nothing to answer to."""

    status = 422
    error_type = "no_onset"


class NonFiniteAudioError(BandstandError):
    """Float samples that are NaN or infinite."""

    status = 422
    error_type = "non_finite_audio"


class UnsupportedAudioError(BandstandError):
    """Audio outside the accepted channels or sample rates."""

    status = 422
    error_type = "unsupported_audio"


class UndecodableAudioError(BandstandError):
    """Decoding takes more time or memory than the content can need; it was given up."""

    status = 422
    error_type = "undecodable_audio"


class UnusableRequestError(BandstandError):
    """Well-formed, but not possible (a genre from a tagger without genres)."""

    status = 422
    error_type = "unusable_request"


class FetchFailedError(BandstandError):
    """The URL could not be read: no such host, a TLS failure, a status other than 200."""

    status = 422
    error_type = "fetch_failed"


class OverloadedError(BandstandError):
    """The server has its maximum number of requests; try again shortly."""

    status = 429
    error_type = "overloaded"


class HeadersTooLargeError(BandstandError):
    """More bytes of headers, or more of them, than the server accepts."""

    status = 431
    error_type = "headers_too_large"


class NonFiniteOutputError(BandstandError):
    """A model's outputs have NaN or infinity; they are not returned."""

    status = 500
    error_type = "non_finite_output"


class UnavailableError(BandstandError):
    """A part of the server is starting, stopping or has died; try again shortly."""

    status = 503
    error_type = "unavailable"


class DeadlineExceededError(BandstandError):
    """The work did not finish within the request's deadline."""

    status = 504
    error_type = "deadline_exceeded"


class CardError(BandstandError):
    """A card does not describe a usable model."""

    error_type = "bad_card"


class ModelMismatchError(BandstandError):
    """A model is broken: a file is missing or damaged, or does not fit the card (names, shapes)."""

    error_type = "model_mismatch"


class SourceError(BandstandError):
    """A model's source could not be read (missing, refused, interrupted, hanging, no space)."""

    status = 503
    error_type = "source_unavailable"


class RepositoryError(BandstandError):
    """The model repository could not be read or written (no space, no permission)."""

    status = 503
    error_type = "repository_unavailable"


class ChecksumError(BandstandError):
    """The content does not have the card's sha256; it was deleted."""

    error_type = "checksum_mismatch"


class CheckpointError(BandstandError):
    """A checkpoint cannot be used: truncated, of another architecture, or in an unsafe format."""

    status = 422
    error_type = "bad_checkpoint"
