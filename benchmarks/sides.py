"""The two sides of a comparison: Bandstand's servers and plain ones of the same model, running."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bandstand.models.repository import ModelRepository
from bandstand.pipelines.genre import DEFAULT_MODEL
from bandstand.runners.cores import available_cores
from bandstand.settings import get_settings
from bandstand.triton.audio_models import AUDIO
from bandstand_client.contract.genre import CLASSIFY
from benchmarks.contenders import Served, Work
from benchmarks.load import multipart_post
from benchmarks.peers.running import running_peer
from benchmarks.processes import Endpoint, wait_until_idle
from benchmarks.triton_load import ServedByTriton, TritonRequest, processes, triton_of
from harness import PROJECT_ROOT
from harness.serving import serving
from harness.transformers_checkpoints import write_wav2vec2

BANDSTAND, TRITON = "Bandstand over HTTP", "Bandstand on Triton over gRPC"
FEATURE_PEERS = {"FastAPI and librosa": "fastapi_plain", "LitServe and librosa": "litserve_plain"}
PIPELINE = "FastAPI and transformers' pipeline"
WAVES_MODEL = "genre_wav2vec2"

# A full queue before a slow model is what is measured, not a failure.
_DEADLINE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Side:
    """One server of the model.

    Attributes:
        ours: whether it is Bandstand's.
        asked: makes the work of asking it so many requests at a time.
        processes: all of its.
    """

    name: str
    ours: bool
    asked: Callable[[int], Work]
    processes: Sequence[psutil.Process]


@contextmanager
def features_sides(clip: bytes, peers: Sequence[str]) -> Iterator[list[Side]]:
    """Run the servers of the default model, over HTTP with `clip` as an upload of a form."""
    repository = get_settings().repository
    model = ModelRepository.over_embedded(repository).latest(DEFAULT_MODEL).model_path
    upload = multipart_post("/predict", clip)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(serving(logs / "server.log", feature_cache_entries=0))
        sides = [_over_http(BANDSTAND, Endpoint(server.url, server.processes()), upload, ours=True)]
        triton = stack.enter_context(triton_of(repository))
        audio = np.array([[clip]], dtype=np.object_)
        request = TritonRequest(CLASSIFY.triton_model, {AUDIO: audio})
        asked = partial(ServedByTriton, triton, request)
        sides.append(Side(TRITON, True, asked, processes(triton)))
        for name in peers:
            print(f"starting {name}", file=sys.stderr)
            peer = running_peer(FEATURE_PEERS[name], model, available_cores())
            sides.append(_over_http(name, stack.enter_context(peer), upload, ours=False))
        yield _idle(sides)


@contextmanager
def pipeline_sides(clip: bytes, sizes: dict[str, Any]) -> Iterator[list[Side]]:
    """Run the servers of one Wav2Vec2 checkpoint of seeded random weights: exported, and as it is.

    Args:
        clip: what is uploaded in a form.
        sizes: of the network; those that are not given are the base model's.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        repository = folder / "model_repository"
        checkpoint = write_wav2vec2(folder / "checkpoint", **sizes)
        install(WAVES_MODEL, checkpoint, repository)
        server = stack.enter_context(
            serving(
                folder / "server.log",
                repository=repository,
                feature_cache_entries=0,
                request_deadline_seconds=_DEADLINE_SECONDS,
            )
        )
        print(f"starting {PIPELINE}", file=sys.stderr)
        peer = stack.enter_context(
            running_peer("transformers_pipeline", checkpoint, available_cores())
        )
        ours = multipart_post(f"/predict?model_name={WAVES_MODEL}", clip)
        endpoint = Endpoint(server.url, server.processes())
        yield _idle(
            [
                _over_http(BANDSTAND, endpoint, ours, ours=True),
                _over_http(PIPELINE, peer, multipart_post("/predict", clip), ours=False),
            ]
        )


def install(name: str, checkpoint: Path, repository: Path) -> None:
    """Export a checkpoint into a repository.

    Raises:
        RuntimeError: the export was refused.
    """
    print(f"exporting {name}", file=sys.stderr)
    command = [sys.executable, "-m", "bandstand_cli", "models", "export", name]
    command += ["--checkpoint", str(checkpoint), "--allow-unverified"]
    done = subprocess.run(
        command,
        cwd=PROJECT_ROOT,
        env={**os.environ, "BANDSTAND_REPOSITORY": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} was not exported:\n{done.stdout}{done.stderr}")


def _over_http(name: str, endpoint: Endpoint, request: bytes, *, ours: bool) -> Side:
    return Side(name, ours, partial(Served, endpoint, request), endpoint.processes)


def _idle(sides: list[Side]) -> list[Side]:
    for side in sides:
        wait_until_idle(side.processes)
    return sides
