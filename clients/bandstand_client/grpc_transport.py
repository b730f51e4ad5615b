"""Parts of the sync and the async gRPC client: channels, credentials, sizes, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bandstand_client.errors import AuthenticationError, TooLargeError
from bandstand_client.keys import authorization
from bandstand_client.kserve import InferCall, error_of
from bandstand_client.policy import Timeouts
from bandstand_client.triton_control import GRPC_HEADER, control_key

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
"""The server's default limit (`BANDSTAND_MAX_UPLOAD_BYTES`)."""

# Bytes of a message beside its audio.
_ENVELOPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form.

    Attributes:
        root_certificates: to verify the server; None: the system's authorities.
        private_key: of the client, if the server requires one.
        certificate_chain: of the private key.
    """

    root_certificates: Path | str | None = None
    private_key: Path | str | None = None
    certificate_chain: Path | str | None = None


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """A server's address and the options of the connection.

    Attributes:
        url: host:port, without a scheme.
        tls: None: no encryption.
        api_key: sent as a bearer token, and as the key for Triton that is derived from it; it
            appears in no repr and no log.
        max_upload_bytes: most bytes of audio in one call.

    Raises:
        ValueError: no usable address or key.
    """

    url: str
    tls: Tls | None
    timeouts: Timeouts
    max_upload_bytes: int
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if "://" in self.url or ":" not in self.url:
            raise ValueError(f"url must look like host:8001, not {self.url!r}")
        if self.api_key is not None:
            authorization(self.api_key)

    def client_options(self) -> dict[str, Any]:
        """Return the arguments of tritonclient's `InferenceServerClient`."""
        most = self.max_upload_bytes + _ENVELOPE_BYTES
        options: dict[str, Any] = {
            "url": self.url,
            "channel_args": [
                ("grpc.max_send_message_length", most),
                ("grpc.max_receive_message_length", -1),
                ("grpc.min_reconnect_backoff_ms", round(self.timeouts.connect * 1000)),
                # RetryPolicy sets the pauses between tries; the channel shall add none.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        }
        if self.tls is not None:
            files = {
                "root_certificates": self.tls.root_certificates,
                "private_key": self.tls.private_key,
                "certificate_chain": self.tls.certificate_chain,
            }
            options |= {name: None if p is None else str(p) for name, p in files.items()}
            options["ssl"] = True
        return options

    def headers(self, request_id: str) -> dict[str, str]:
        """Return the metadata of one call."""
        headers = {"x-request-id": request_id}
        if self.api_key is not None:
            headers["authorization"] = authorization(self.api_key)
            headers[GRPC_HEADER] = control_key(self.api_key)
        return headers

    def check_size(self, content: bytes) -> bytes:
        """Return `content` if it is within the server's limit.

        Raises:
            TooLargeError: it is not.
        """
        if len(content) > self.max_upload_bytes:
            raise TooLargeError(
                f"the audio is larger than {self.max_upload_bytes} bytes",
                status=413,
                error_type="payload_too_large",
            )
        return content


def load_library() -> Any:
    """Return `tritonclient.grpc`.

    Raises:
        ImportError: it is not installed; the message has the command to install it.
    """
    try:
        import tritonclient.grpc
        import tritonclient.grpc.aio
    except ImportError as error:
        raise ImportError(
            "the gRPC clients need the Triton client: pip install 'bandstand-client[grpc]'"
        ) from error
    return tritonclient.grpc


def infer_options(call: InferCall[Any], request_id: str) -> dict[str, Any]:
    """Return the arguments of tritonclient's `infer`."""
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    inputs = []
    for name, array in call.inputs.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    version = "" if call.version is None else str(call.version)
    return {
        "model_name": call.model,
        "inputs": inputs,
        "model_version": version,
        "request_id": request_id,
    }


@contextmanager
def triton_errors(request_id: str) -> Iterator[None]:
    """Convert tritonclient's errors to the clients' errors."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise error_of(str(error.message()), error.status(), request_id) from error


@contextmanager
def for_administrators(options: Mapping[str, Any]) -> Iterator[None]:
    """Leave the block if the server refuses it because the key is not its administrator's.

    Args:
        options: of the call: `headers` and `client_timeout`.
    """
    with suppress(AuthenticationError), triton_errors(options["headers"]["x-request-id"]):
        yield
