"""A peer: an audio classifier behind FastAPI and transformers' own pipeline.

It exists to be measured against, like `fastapi_plain`: the checkpoint as it is, no export.
`python -m benchmarks.peers.transformers_pipeline --model FOLDER --port 8003`, then `POST /predict`
with a multipart `file`. Each of `--workers` processes has the model and its share of the cores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import librosa
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request, UploadFile

MODEL_VARIABLE = "PEER_MODEL"
THREADS_VARIABLE = "PEER_THREADS"
"""Environment variables that tell the worker processes where the model is, and their share."""

START_SECONDS = 60
"""A worker that says nothing for so long is started anew; imports take longer than uvicorn's 5 s
where others are at work."""


@asynccontextmanager
async def load_model(app: FastAPI) -> AsyncIterator[None]:
    """Load the model and use it once, and work on one request at a time with all threads."""
    # Here, since the process that only watches the workers needs none of it.
    import torch
    from transformers import pipeline

    torch.set_num_threads(int(os.environ[THREADS_VARIABLE]))
    classifier: Any = pipeline(
        "audio-classification", model=os.environ[MODEL_VARIABLE], device="cpu"
    )
    rate = classifier.feature_extractor.sampling_rate
    classifier({"raw": np.zeros(rate, np.float32), "sampling_rate": rate})
    app.state.classifier = classifier
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    yield


app = FastAPI(title="Plain transformers server", lifespan=load_model)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer that the server is up."""
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request, file: UploadFile) -> dict[str, Any]:
    """Answer with the label of an uploaded recording."""
    classifier: Any = request.app.state.classifier
    rate = classifier.feature_extractor.sampling_rate
    try:
        samples, _ = librosa.load(file.file, sr=rate, mono=True)
    except Exception as error:  # librosa raises whatever its back end raises
        raise HTTPException(status_code=415, detail=str(error)) from error
    scores = classifier({"raw": samples, "sampling_rate": rate}, top_k=None)
    return {"primary_genre": scores[0]["label"], "all_scores": scores}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="FastAPI server of a transformers pipeline.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--model", type=Path, required=True, help="folder of a checkpoint")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    os.environ[MODEL_VARIABLE] = str(arguments.model)
    os.environ[THREADS_VARIABLE] = str(max(1, cores // arguments.workers))
    uvicorn.run(
        "benchmarks.peers.transformers_pipeline:app",
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
        timeout_worker_healthcheck=START_SECONDS,
    )


if __name__ == "__main__":
    main()
