"""Every refusal Bandstand makes: one class, one documented HTTP status and one stable name each.

An error crosses process borders as `ErrorAnswer` fields (`to_fields`, `from_fields`), so that a
refusal found in a worker reaches the client with the status and wording it was raised with.
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
        error_type: the name a client may rely on.
        retry_after: seconds after which trying again makes sense; None when it never does.
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
        """Rebuild the error another process raised; an unknown name becomes an internal error."""
        kind = BandstandError.registry.get(fields.get("error_type", ""), BandstandError)
        return kind(fields.get("error", "unknown error"), retry_after=fields.get("retry_after"))

    def __reduce__(self) -> tuple[Any, ...]:
        return (BandstandError.from_fields, (self.to_fields(),))


class MalformedRequestError(BandstandError):
    """The request itself cannot be read: no audio in it, a bad number, a broken multipart body."""

    status = 400
    error_type = "malformed_request"


class UnauthorizedError(BandstandError):
    """No key came along, or not the right one."""

    status = 401
    error_type = "unauthorized"


class ModelControlOffError(BandstandError):
    """This server's models cannot be changed through it: no administrator's key is set."""

    status = 403
    error_type = "model_control_off"


class AddressRefusedError(BandstandError):
    """A URL points where the server must not go: a private, loopback or link-local address."""

    status = 403
    error_type = "address_refused"


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


class ModelNotInstalledError(BandstandError):
    """The card is known, its model is not in the repository; the message says how to install it."""

    status = 409
    error_type = "model_not_installed"


class ModelInUseError(BandstandError):
    """What was asked for would take a model away that is in use, or that comes with Bandstand."""

    status = 409
    error_type = "model_in_use"


class PayloadTooLargeError(BandstandError):
    """More bytes than the server accepts."""

    status = 413
    error_type = "payload_too_large"


class AudioTooLongError(BandstandError):
    """More seconds of audio than the server accepts; found while decoding, not after."""

    status = 413
    error_type = "audio_too_long"


class NotAudioError(BandstandError):
    """The content is no audio in a format that can be decoded, whatever its name says."""

    status = 415
    error_type = "not_audio"


class EmptyAudioError(BandstandError):
    """Zero bytes, or a container without one sample."""

    status = 422
    error_type = "empty_audio"


class AudioTooShortError(BandstandError):
    """Fewer seconds than the model can say anything about."""

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


class UnusableRequestError(BandstandError):
    """Well-formed, but it asks for what makes no sense (a genre of a tagger without genres)."""

    status = 422
    error_type = "unusable_request"


class FetchFailedError(BandstandError):
    """The URL could not be read: no such host, a TLS failure, a status other than 200."""

    status = 422
    error_type = "fetch_failed"


class OverloadedError(BandstandError):
    """As many requests as the server takes at once are being answered; try again shortly."""

    status = 429
    error_type = "overloaded"


class NonFiniteOutputError(BandstandError):
    """A model answered NaN or infinity: its answer is withheld."""

    status = 500
    error_type = "non_finite_output"


class UnavailableError(BandstandError):
    """A part of the server is starting, stopping or gone; try again shortly."""

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
    """A model is broken: a file is missing or garbled, or does not fit the card (names, shapes)."""

    error_type = "model_mismatch"


class SourceError(BandstandError):
    """A model's source could not be read (not there, refused, cut off, hanging, no space)."""

    status = 503
    error_type = "source_unavailable"


class RepositoryError(BandstandError):
    """The model repository could not be read or written (no space, no permission)."""

    status = 503
    error_type = "repository_unavailable"


class ChecksumError(BandstandError):
    """Content does not have the sha256 its card promises; it was not kept."""

    error_type = "checksum_mismatch"


class CheckpointError(BandstandError):
    """A checkpoint cannot be used: truncated, of another architecture, or in an unsafe format."""

    status = 422
    error_type = "bad_checkpoint"
