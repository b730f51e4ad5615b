"""Encoded recordings, made when a test needs them."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import soundfile


def tone(seconds: float, sample_rate: int, channels: int = 1) -> np.ndarray:
    """Return a chord with a little noise, another pitch a channel; shape (n, channels), float32."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(7).normal(scale=0.01, size=(len(time), channels))
    pitches = 220.0 * (1 + np.arange(channels) / 4)
    waves = 0.3 * np.sin(2 * np.pi * time[:, None] * pitches) + 0.1 * np.sin(
        2 * np.pi * time[:, None] * pitches * 3
    )
    return (waves + noise).astype(np.float32)


def encode_with_soundfile(
    samples: np.ndarray, sample_rate: int, container: str, subtype: str
) -> bytes:
    """Encode samples of shape (n, channels) with libsndfile."""
    target = io.BytesIO()
    soundfile.write(target, samples, sample_rate, format=container, subtype=subtype)
    return target.getvalue()


def encode_with_ffmpeg(
    samples: np.ndarray, sample_rate: int, container: str, codec: str, **muxer_options: str
) -> bytes:
    """Encode samples of shape (n, 1 or 2) with FFmpeg, which may read back what it wrote."""
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    planes = np.ascontiguousarray(samples.T)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "encoded"
        with av.open(str(target), "w", format=container, options=muxer_options) as output:
            stream = output.add_stream(codec, rate=sample_rate, layout=layout)
            for start in range(0, planes.shape[1], 4096):
                block = np.ascontiguousarray(planes[:, start : start + 4096])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate = sample_rate
                frame.pts = start
                frame.time_base = Fraction(1, sample_rate)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return target.read_bytes()
