"""The preprocessor: decodes, resamples, cuts windows, and computes host front ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import bentoml

from bandstand.audio.decode import DecodeLimits
from bandstand.audio.decoder_pool import Content
from bandstand.models.card import InputSpecification
from bandstand.models.catalogue import Catalogue
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.pipelines.guarded import GuardedPreparation
from bandstand.runners.cores import available_cores
from bandstand.settings import get_settings
from bandstand_bentos.handover import RECORDING, take_over
from bandstand_bentos.prepared_block import to_block
from bandstand_bentos.seam import Block, RefusePickles
from bandstand_bentos.server_folder import mark_ready
from bandstand_bentos.wiring import PREPROCESSOR, preprocess_layout, service_config
from bandstand_bentos.worker import (
    Arrays,
    ClientDisconnectedError,
    Metadata,
    answer,
    connection_check,
    start_worker,
)

_SETTINGS = get_settings()
_WORKERS, _THREADS = preprocess_layout(_SETTINGS, available_cores())


class _Preprocessor:
    """Prepares recordings on the CPU, in processes separate from the models."""

    def __init__(self) -> None:
        self._preparation = GuardedPreparation(DecodeLimits.from_settings(_SETTINGS), _THREADS)

    @bentoml.on_startup
    async def start(self) -> None:
        """Prepare a tone before the first request."""
        start_worker(_SETTINGS)
        card = Catalogue.from_settings(_SETTINGS).installable(DEFAULT_MODEL)
        self._preparation.warm_up(card)
        mark_ready()

    @bentoml.api(input_spec=Block, output_spec=Block)
    async def prepare(self, block: bytes, /, ctx: bentoml.Context) -> bytes:
        """Prepare one recording for all the models of a request.

        Args:
            block: metadata `wanted`, different `InputSpecification`s, and the encoded bytes: as
                array `audio` (uint8), or handed over in shared memory.
            ctx: the request, to notice a client that disconnected.
        """
        client_waits = connection_check(ctx)

        async def check() -> None:
            if not await client_waits():
                raise ClientDisconnectedError("the client disconnected")

        async def work(arrays: Arrays, metadata: Metadata) -> tuple[Arrays, Metadata]:
            # Specifications, not model names: versions with other cards may be installed meanwhile.
            wanted = [InputSpecification.model_validate(each) for each in metadata["wanted"]]
            with _content(arrays, metadata) as content:
                prepared = await self._preparation.prepare(
                    content, wanted, check, metadata["client"]
                )
            return to_block(prepared, [each.key for each in wanted])

        return await answer(block, work)


def _content(arrays: Arrays, metadata: Metadata) -> AbstractContextManager[Content]:
    if RECORDING in metadata:
        return take_over(metadata)
    return nullcontext(arrays["audio"].tobytes())


Preprocessor = bentoml.service(
    _Preprocessor, name=PREPROCESSOR, workers=_WORKERS, **service_config(_SETTINGS)
)
Preprocessor.add_asgi_middleware(RefusePickles)
