"""A spectrum transformed back is the signal it came from."""

from __future__ import annotations

import numpy as np
import pytest

from bandstand.frontends.stft import OverlapAdd, stft


@pytest.mark.parametrize("length", [2048, 22_050, 51_199, 51_200, 51_201])
def test_round_trip(length: int) -> None:
    samples = np.random.default_rng(length).normal(size=length).astype(np.float32)
    spectrum = stft(samples, n_fft=2048, hop=512)
    signal = OverlapAdd(len(spectrum), n_fft=2048, hop=512)
    for start in range(0, len(spectrum), 7):
        signal.add(spectrum[start : start + 7])
    np.testing.assert_allclose(signal.samples(length), samples, atol=5e-6)


def test_hop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="hop"):
        OverlapAdd(10, n_fft=2048, hop=600)
