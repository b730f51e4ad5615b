"""A peer: a CNN on MFCCs behind FastAPI, as one would write it in an afternoon.

It exists to be measured against, like `fastapi_plain`: the network's own ONNX file behind librosa's
MFCCs of each 3 s. `python -m benchmarks.peers.fastapi_mfcc_cnn --model network.onnx --port 8003`,
then `POST /predict` with a multipart `file`.
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
import onnxruntime
import scipy.special
import uvicorn
from fastapi import FastAPI, HTTPException, Request, UploadFile
from numpy.typing import NDArray

from benchmarks.peers.plain_librosa import GENRES, SAMPLE_RATE, UnreadableAudioError, load

MODEL_VARIABLE = "PEER_MODEL"
"""Environment variable that tells the worker processes where the model is."""
WINDOW = 3 * SAMPLE_RATE
N_MFCC, N_FFT, HOP = 13, 2048, 512


class MfccCnn:
    """The network, loaded once; `predict` may be called from many threads."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # requests are many; the threads go to them
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self.predict(np.zeros(WINDOW, np.float32))  # librosa compiles some loops at first use

    def predict(self, samples: NDArray[np.float32]) -> dict[str, Any]:
        """Answer for one recording, shape (n,): the mean over its windows."""
        windows = samples[: max(1, len(samples) // WINDOW) * WINDOW]
        windows = librosa.util.fix_length(windows, size=-(-len(windows) // WINDOW) * WINDOW)
        pictures = [
            librosa.feature.mfcc(
                y=window, sr=SAMPLE_RATE, n_mfcc=N_MFCC, n_fft=N_FFT, hop_length=HOP
            ).T
            for window in windows.reshape(-1, WINDOW)
        ]
        (logits,) = self._session.run(["logits"], {self._input: np.stack(pictures)})
        scores = scipy.special.softmax(logits.astype(np.float64), axis=1).mean(axis=0)
        return {
            "primary_genre": GENRES[int(scores.argmax())],
            "confidence": 100.0 * float(scores.max()),
            "all_scores": dict(zip(GENRES, scores.tolist(), strict=True)),
        }


@asynccontextmanager
async def load_model(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, and work on no more requests at a time than there are cores."""
    app.state.model = MfccCnn(Path(os.environ[MODEL_VARIABLE]))
    anyio.to_thread.current_default_thread_limiter().total_tokens = os.cpu_count() or 1
    yield


app = FastAPI(title="Plain MFCC CNN server", lifespan=load_model)


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
    model: MfccCnn = request.app.state.model
    return model.predict(samples)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Plain FastAPI server of an MFCC CNN.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--model", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ[MODEL_VARIABLE] = str(arguments.model)
    uvicorn.run(
        "benchmarks.peers.fastapi_mfcc_cnn:app",
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
