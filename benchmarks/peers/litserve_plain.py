"""A peer: the genre model behind LitServe, written by its book.

It exists to be measured against, like `fastapi_plain`: the same ONNX file, upload and answer.
`python -m benchmarks.peers.litserve_plain --port 8002`, then `POST /predict` with a multipart
`file`. Decoding and inference run in LitServe's worker processes (`--workers`), each of which
loads the model once, in `setup`.
"""

# No postponed annotations here: LitServe compares the type of `request` with the class itself.
import argparse
import signal
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from fastapi import HTTPException, Request
from starlette.formparsers import MultiPartParser

from benchmarks.peers.plain_librosa import (
    DEFAULT_MODEL,
    GenreModel,
    UnreadableAudioError,
    extract,
    load,
)

MAX_UPLOAD_BYTES = 64 * 1024 * 1024
ANSWER_SECONDS = 300
"""LitServe's own 30 s would refuse what a longer queue would answer."""

# An upload travels to the worker process by pickle, which a file on disk would not survive.
MultiPartParser.spool_max_size = MAX_UPLOAD_BYTES


class GenreAPI(litserve.LitAPI):
    """Upload in, genre out."""

    def __init__(self, model_path: Path) -> None:
        super().__init__()
        self._model_path = model_path

    def setup(self, device: str) -> None:
        """Load the model; called once in each worker."""
        self._model = GenreModel(self._model_path)

    def decode_request(self, request: Request) -> np.ndarray[Any, Any]:
        """Decode the upload and compute its features."""
        try:
            return extract(load(request["file"].file))
        except KeyError:
            raise HTTPException(status_code=400, detail="no `file` in the form") from None
        except UnreadableAudioError as error:
            raise HTTPException(status_code=415, detail=str(error)) from error

    def predict(self, features: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Answer for one recording."""
        return self._model.predict(features)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Send the answer as it is."""
        return output


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="LitServe server of the genre model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    server = litserve.LitServer(
        GenreAPI(arguments.model),
        accelerator="cpu",
        workers_per_device=arguments.workers,
        max_payload_size=MAX_UPLOAD_BYTES,
        timeout=ANSWER_SECONDS,
    )
    # LitServe tidies its processes away at Ctrl-C only; `kill` shall do the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server.run(
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
