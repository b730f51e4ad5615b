"""The gRPC clients against a server with scripted answers: retries, errors, TLS, tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from bandstand_client import errors
from bandstand_client.grpc import AsyncBandstandGrpc, BandstandGrpc
from bandstand_client.grpc_transport import Tls

ROW = {"x": np.zeros((1, 3), np.float32)}
CODES = grpc.StatusCode


@dataclass
class Script(GRPCInferenceServiceServicer):
    """Refuses with what it is given, in turn, and then answers."""

    refusals: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    answer: bytes = b"{}"
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Answer one inference."""
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.refusals:
            context.abort(*self.refusals.pop(0))
        content = len(self.answer).to_bytes(4, "little") + self.answer
        return pb.ModelInferResponse(
            model_name=request.model_name,
            model_version="3",
            outputs=[
                pb.ModelInferResponse.InferOutputTensor(
                    name="answer", datatype="BYTES", shape=[1, 1]
                )
            ],
            raw_output_contents=[content],
        )


@contextmanager
def listening(script: Script, tls: grpc.ServerCredentials | None = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    add_GRPCInferenceServiceServicer_to_server(script, server)
    address = "localhost:0" if tls else "127.0.0.1:0"
    port = server.add_secure_port(address, tls) if tls else server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"{address.partition(':')[0]}:{port}"
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("code", "message", "kind", "status", "error_type"),
    [
        (CODES.UNIMPLEMENTED, "[415 not_audio] no", errors.InvalidAudioError, 415, "not_audio"),
        (
            CODES.INTERNAL,
            "instance 'x_0', message: [422 empty_audio] none\nof it",
            errors.InvalidAudioError,
            422,
            "empty_audio",
        ),
        (CODES.UNAVAILABLE, "[409 model_not_installed] x", errors.RefusedError, 409, None),
        (CODES.UNAVAILABLE, "[504 deadline_exceeded] late", errors.DeadlineError, 504, None),
        (CODES.INVALID_ARGUMENT, "unexpected shape", errors.RefusedError, 400, None),
        (CODES.NOT_FOUND, "unknown model: 'x'", errors.NotFoundError, 404, "model_not_found"),
        (
            CODES.NOT_FOUND,
            "Request for unknown model: 'x' has no available versions",
            errors.RefusedError,
            409,
            "model_not_installed",
        ),
        (CODES.UNAUTHENTICATED, "who are you", errors.AuthenticationError, 401, None),
        (CODES.PERMISSION_DENIED, "not you", errors.AuthenticationError, 403, None),
        (CODES.RESOURCE_EXHAUSTED, "too large", errors.TooLargeError, 413, None),
        (CODES.INTERNAL, "broken", errors.ServerError, 500, "internal_error"),
        (CODES.DATA_LOSS, "broken", errors.ServerError, None, "data_loss"),
    ],
)
def test_what_the_server_means_is_raised_and_not_asked_again(
    code: grpc.StatusCode,
    message: str,
    kind: type[errors.BandstandClientError],
    status: int | None,
    error_type: str | None,
) -> None:
    script = Script([(code, message)])
    with (
        listening(script) as address,
        BandstandGrpc(address) as client,
        pytest.raises(kind) as caught,
    ):
        client.infer("x", ROW)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert error_type in (None, caught.value.error_type)
    assert caught.value.request_id == script.requests[0].id
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "message", ["Socket closed", "[503 unavailable] starting", "[429 overloaded] full"]
)
async def test_what_was_not_answered_is_asked_again_as_the_same_request(message: str) -> None:
    refusals = [(CODES.UNAVAILABLE, message)] * 2
    script = Script(list(refusals))
    with listening(script) as address, BandstandGrpc(address) as client:
        assert client.infer("x", ROW).version == 3
    assert len(script.requests) == 3
    assert len({request.id for request in script.requests}) == 1

    script = Script(list(refusals))
    with listening(script) as address:
        async with AsyncBandstandGrpc(address, retries=1) as client:
            with pytest.raises((errors.UnavailableError, errors.OverloadedError)):
                await client.infer("x", ROW)
    assert len(script.requests) == 2


def test_what_is_sent_is_what_was_asked_for() -> None:
    script = Script()
    with (
        listening(script) as address,
        BandstandGrpc(address, api_key="secret") as client,
        pytest.raises(errors.ServerError, match="missing") as caught,
    ):
        client.classify(b"sound", model_name="genre_cnn", top_k=2)
    assert caught.value.error_type == "malformed_answer"
    (request,), (metadata,) = script.requests, script.metadata
    assert request.model_name == "classify_genre"
    contents = {
        tensor.name: content[4:]
        for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    assert contents["audio"] == b"sound"
    assert json.loads(contents["options"]) == {"model_name": "genre_cnn", "top_k": 2}
    assert metadata["authorization"] == "Bearer secret"
    assert metadata["x-request-id"] == request.id


async def test_instruments_are_asked_for_by_the_names_of_http() -> None:
    script = Script()
    with listening(script) as address:
        with BandstandGrpc(address) as client, pytest.raises(errors.ServerError):
            client.detect_instruments(b"sound", model_name="tags_jamendo", threshold=0.25)
        async with AsyncBandstandGrpc(address) as other:
            with pytest.raises(errors.ServerError):
                await other.detect_instruments(b"sound")
    asked, plain = script.requests
    assert asked.model_name == plain.model_name == "tag_instruments"
    options = json.loads(asked.raw_input_contents[1][4:])
    assert options == {"model_name": "tags_jamendo", "threshold": 0.25}
    assert [tensor.name for tensor in plain.inputs] == ["audio"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The authority's and a client's own certificate, as files."""
    folder = tmp_path_factory.mktemp("certificates")
    own = authority.issue_cert("client.test")
    authority.cert_pem.write_to_path(folder / "root")
    own.private_key_pem.write_to_path(folder / "key")
    (folder / "chain").write_bytes(b"".join(blob.bytes() for blob in own.cert_chain_pems))
    return lambda name: folder / name


def credentials(authority: trustme.CA, *, ask: bool) -> grpc.ServerCredentials:
    own = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in own.cert_chain_pems)
    return grpc.ssl_server_credentials(
        [(own.private_key_pem.bytes(), chain)],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=ask,
    )


async def test_both_sides_prove_who_they_are(
    authority: trustme.CA, files: Callable[[str], Path]
) -> None:
    tls = Tls(files("root"), private_key=files("key"), certificate_chain=files("chain"))
    with listening(Script(), credentials(authority, ask=True)) as address:
        with BandstandGrpc(address, tls=tls) as client:
            assert client.infer("x", ROW).version == 3
        async with AsyncBandstandGrpc(address, tls=tls) as other:
            assert (await other.infer("x", ROW)).version == 3
        with (
            BandstandGrpc(address, tls=Tls(files("root")), retries=0) as nobody,
            pytest.raises(errors.UnavailableError),
        ):
            nobody.infer("x", ROW)


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(
    authority: trustme.CA, files: Callable[[str], Path]
) -> None:
    script = Script()
    with listening(script, credentials(trustme.CA(), ask=False)) as address:
        for tls in (Tls(files("root")), None):
            with (
                BandstandGrpc(address, tls=tls, retries=0, api_key="secret") as client,
                pytest.raises(errors.UnavailableError),
            ):
                client.infer("x", ROW)
    assert script.requests == []
