"""A peer: the genre model behind FastAPI, as one would write it in an afternoon.

It exists to be measured against: the same ONNX file, the same upload, the same answer, done with
FastAPI, librosa and ONNX Runtime alone. `python -m benchmarks.peers.fastapi_plain --port 8001`,
then `POST /predict` with a multipart `file`. Requests are worked on in the thread pool, the model
is loaded and warmed before the port answers, and `--workers` starts more processes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, HTTPException, Request, UploadFile

from benchmarks.peers.plain_librosa import (
    DEFAULT_MODEL,
    GenreModel,
    UnreadableAudioError,
    extract,
    load,
)

MODEL_VARIABLE = "PEER_MODEL"
"""Environment variable that tells the worker processes where the model is."""

START_SECONDS = 60
"""A worker that says nothing for so long is started anew; imports take longer than uvicorn's 5 s
where others are at work."""


@asynccontextmanager
async def load_model(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, and work on no more requests at a time than there are cores."""
    app.state.model = GenreModel(Path(os.environ.get(MODEL_VARIABLE, str(DEFAULT_MODEL))))
    anyio.to_thread.current_default_thread_limiter().total_tokens = os.cpu_count() or 1
    yield


app = FastAPI(title="Plain genre server", lifespan=load_model)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer that the server is up."""
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request, file: UploadFile) -> dict[str, Any]:
    """Answer with the genre of an uploaded recording."""
    try:
        samples = load(file.file)
    except UnreadableAudioError as error:
        raise HTTPException(status_code=415, detail=str(error)) from error
    model: GenreModel = request.app.state.model
    return model.predict(extract(samples))


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Plain FastAPI server of the genre model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    os.environ[MODEL_VARIABLE] = str(arguments.model)
    uvicorn.run(
        "benchmarks.peers.fastapi_plain:app",
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
        timeout_worker_healthcheck=START_SECONDS,
    )


if __name__ == "__main__":
    main()
