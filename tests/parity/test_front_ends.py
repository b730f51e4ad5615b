"""Each front end gives the numbers of the library it is named after: torch, host and graph alike.

What is allowed, and why no less is possible in float32: docs/decisions/0006-parity-bounds.md.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.errors import CardError
from bandstand.frontends import host
from bandstand.frontends.dft import make_spectrum
from bandstand.frontends.fbank import Fbank
from bandstand.frontends.logmel import LogMel
from bandstand.frontends.mfcc import Mfcc
from bandstand.frontends.parameters import (
    FbankParameters,
    LogMelParameters,
    MfccParameters,
    StandardizeParameters,
)
from bandstand.frontends.standardize import Standardize
from bandstand.models.card import FrontEnd
from bandstand.settings import get_settings
from bandstand_exporters.torch_graph import write_graph
from harness.small_graphs import card

DECIBELS = 2e-4
"""The host, which transforms in float64, is so close to librosa in every band."""
RELATIVE = 1e-3
"""A band's power may be so far from the library's, relatively: 0.0043 dB."""
DEPTH_DB = 80.0
"""Bands further below their frame's power count as that far below it: librosa's own range."""
FILTER_BANK = 5e-5
"""The same for standardised log energies, which have a unit of their own."""
SECONDS = 3
Clips = dict[str, NDArray[np.float32]]

LOG_MEL = {
    "librosa": LogMelParameters(sample_rate=22_050, dynamic_range_db=80.0),
    "loudest is 0 dB": LogMelParameters(sample_rate=22_050, reference="max", dynamic_range_db=80.0),
    "no range": LogMelParameters(sample_rate=22_050, n_fft=1024, hop=256, n_mels=64),
    "hop divides nothing": LogMelParameters(sample_rate=22_050, n_fft=1000, hop=441, n_mels=40),
    "htk": LogMelParameters(
        sample_rate=16_000,
        n_fft=512,
        hop=256,
        n_mels=96,
        high_hz=8000.0,
        mel_scale="htk",
        area_normalised=False,
        padding="reflect",
    ),
    "magnitude": LogMelParameters(
        sample_rate=22_050, spectrum="magnitude", floor=1e-5, dynamic_range_db=80.0
    ),
    "not centred": LogMelParameters(sample_rate=22_050, padding="none", dynamic_range_db=80.0),
}
LINEAR = {
    "drum hits": LogMelParameters(sample_rate=44_100, high_hz=8000.0, level="linear"),
    "magnitude": LogMelParameters(sample_rate=22_050, spectrum="magnitude", level="linear"),
}


def made_up(sample_rate: int) -> Clips:
    time = np.arange(sample_rate) / sample_rate
    tone = np.sin(2 * np.pi * 441.0 * time)
    noise = np.random.default_rng(5).uniform(-1, 1, len(time))
    signals = {
        "silence": np.zeros(len(time)),
        "tone": tone,
        "square": np.sign(tone),
        "noise": noise,
    }
    return {name: signal.astype(np.float32) for name, signal in signals.items()}


def real(directory: Path, sample_rate: int) -> Clips:
    limits = DecodeLimits.from_settings(get_settings())
    paths = sorted((directory / "audio").glob("*.ogg"))
    waveforms = {path.stem: decode(path.read_bytes(), limits) for path in paths}
    return {
        name: resample(waveform, sample_rate).samples[: SECONDS * sample_rate]
        for name, waveform in waveforms.items()
    }


@pytest.fixture(scope="module")
def clips(data_dir: Path) -> Callable[[int], Clips]:
    known: dict[int, Clips] = {}

    def at(sample_rate: int) -> Clips:
        if sample_rate not in known:
            known[sample_rate] = made_up(sample_rate) | real(data_dir, sample_rate)
        return known[sample_rate]

    return at


def librosa_mel(samples: NDArray[np.float32], parameters: LogMelParameters) -> Any:
    return librosa.feature.melspectrogram(
        y=samples,
        sr=parameters.sample_rate,
        n_fft=parameters.n_fft,
        hop_length=parameters.hop,
        n_mels=parameters.n_mels,
        fmin=parameters.low_hz,
        fmax=parameters.high_hz,
        htk=parameters.mel_scale == "htk",
        norm="slaney" if parameters.area_normalised else None,
        power=2.0 if parameters.spectrum == "power" else 1.0,
        center=parameters.padding != "none",
        pad_mode=parameters.padding if parameters.padding != "none" else "constant",
    ).T


def librosa_decibels(samples: NDArray[np.float32], parameters: LogMelParameters) -> Any:
    convert = librosa.power_to_db if parameters.spectrum == "power" else librosa.amplitude_to_db
    reference = np.max if parameters.reference == "max" else 1.0
    mel = librosa_mel(samples, parameters)
    return convert(mel, ref=reference, amin=parameters.floor, top_db=parameters.dynamic_range_db)


def differing_bands(ours: Any, expected: Any, relative: float = RELATIVE) -> int:
    """Count the bands whose powers, `(frames, bands)`, are farther apart than is allowed."""
    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    least = expected.sum(axis=1, keepdims=True) * 10 ** (-DEPTH_DB / 10)
    return int((np.abs(ours - expected) > relative * np.maximum(expected, least)).sum())


def power(decibels: Any) -> Any:
    """Return the power of decibels."""
    return 10 ** (decibels.astype(np.float64) / 10)


def by_torch(module: nn.Module, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    with torch.inference_mode():
        output: Tensor = module(*map(torch.from_numpy, inputs))
    return output.numpy()


@pytest.mark.parametrize("case", LOG_MEL)
def test_decibels_are_librosas(case: str, clips: Callable[[int], Clips]) -> None:
    parameters = LOG_MEL[case]
    module = LogMel(parameters)
    for name, samples in clips(parameters.sample_rate).items():
        expected = librosa_decibels(samples, parameters)
        assert expected.shape == (parameters.frames(len(samples)), parameters.n_mels)
        graph, on_host = by_torch(module, samples[None]), host.log_mel(samples[None], parameters)
        assert graph.dtype == on_host.dtype == np.float32
        assert np.abs(on_host[0] - expected).max() <= DECIBELS, name
        assert differing_bands(power(graph[0]), power(expected)) == 0, name


@pytest.mark.parametrize("case", LINEAR)
def test_bands_without_logarithm_are_librosas(case: str, clips: Callable[[int], Clips]) -> None:
    parameters = LINEAR[case]
    module = LogMel(parameters)
    for name, samples in clips(parameters.sample_rate).items():
        expected = librosa_mel(samples, parameters)
        exponent = 1 if parameters.spectrum == "power" else 2
        for ours in (by_torch(module, samples[None]), host.log_mel(samples[None], parameters)):
            assert differing_bands(ours[0] ** exponent, expected**exponent) == 0, name


def test_a_tenth_of_a_second_of_drums_has_eighteen_frames() -> None:
    parameters = LINEAR["drum hits"]
    hit = np.zeros((2, 8820), np.float32)
    assert (
        by_torch(LogMel(parameters), hit).shape
        == host.log_mel(hit, parameters).shape
        == (2, 18, 128)
    )


def test_natural_logarithm_with_floor(clips: Callable[[int], Clips]) -> None:
    parameters = LogMelParameters(sample_rate=16_000, n_fft=512, level="natural_log", floor=1e-6)
    for samples in clips(16_000).values():
        expected = np.log(np.maximum(librosa_mel(samples, parameters), 1e-6))
        for ours in (
            by_torch(LogMel(parameters), samples[None]),
            host.log_mel(samples[None], parameters),
        ):
            np.testing.assert_allclose(ours[0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_mfcc", [13, 20])
def test_mfcc_is_librosas(n_mfcc: int, clips: Callable[[int], Clips]) -> None:
    parameters = MfccParameters(sample_rate=22_050, n_mfcc=n_mfcc)
    module = Mfcc(parameters)
    # A coefficient is a unit-length sum of all bands' decibels.
    allowed = 2e-4 * np.sqrt(parameters.n_mels)
    for samples in clips(22_050).values():
        expected = librosa.feature.mfcc(y=samples, sr=22_050, n_mfcc=n_mfcc).T
        for ours in (by_torch(module, samples[None]), host.mfcc(samples[None], parameters)):
            np.testing.assert_allclose(ours[0], expected, rtol=0, atol=allowed)


@pytest.mark.parametrize("seconds", [3, 12])
def test_filter_bank_is_that_of_transformers(seconds: int, data_dir: Path) -> None:
    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():  # two of the lowest bands are narrower than a bin
        warnings.simplefilter("ignore", UserWarning)
        extract = ASTFeatureExtractor()
    parameters = FbankParameters(sample_rate=16_000)
    in_nats = 2 * parameters.std
    module = Fbank(parameters)
    for name, clip in (made_up(16_000) | real(data_dir, 16_000)).items():
        samples = np.resize(clip, seconds * 16_000)
        expected = extract(samples, sampling_rate=16_000, return_tensors="np")["input_values"][0]
        padded = np.zeros((1, 13 * 16_000), np.float32)
        padded[0, : len(samples)] = samples
        on_host = host.fbank(samples[None], parameters)
        assert on_host.dtype == np.float32
        assert np.abs(on_host[0] - expected).max() <= FILTER_BANK, name
        whole = by_torch(module, samples[None])[0]
        part = by_torch(module, padded, np.array([len(samples)]))[0]
        for ours in (whole, part):
            assert ours.shape == (1024, 128)
            found, wanted = (np.exp(in_nats * a.astype(np.float64)) for a in (ours, expected))
            assert differing_bands(found, wanted, in_nats * FILTER_BANK) == 0, name


def test_standardize_is_that_of_transformers(clips: Callable[[int], Clips]) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    extract = Wav2Vec2FeatureExtractor(do_normalize=True)
    module = Standardize(StandardizeParameters(sample_rate=16_000))
    for samples in clips(16_000).values():
        expected = extract(samples, sampling_rate=16_000, return_tensors="np")["input_values"][0]
        padded = np.concatenate([samples, np.zeros(999, np.float32)])
        part = by_torch(module, padded[None], np.array([len(samples)]))[0]
        np.testing.assert_allclose(by_torch(module, samples[None])[0], expected, atol=5e-5)
        np.testing.assert_allclose(part[: len(samples)], expected, atol=5e-5)
        assert not part[len(samples) :].any()


@pytest.mark.parametrize(("n_fft", "hop"), [(400, 160), (512, 256), (2048, 512), (4096, 1024)])
def test_every_frequency_is_where_the_spectrum_says(n_fft: int, hop: int) -> None:
    samples = np.random.default_rng(3).normal(size=(2, n_fft + 3 * hop)).astype(np.float32)
    spectrum = make_spectrum(n_fft, hop)
    ours = by_torch(spectrum, samples)[:, :, spectrum.rows, :, spectrum.columns]
    power = np.square(ours).sum(axis=-1)  # (bins, n, frames)
    for row in range(2):
        expected = librosa.stft(samples[row], n_fft=n_fft, hop_length=hop, center=False)
        np.testing.assert_allclose(power[:, row], np.abs(expected) ** 2, rtol=1e-3, atol=1e-3)


GRAPHS: dict[str, tuple[nn.Module, bool]] = {
    "log-mel in two stages": (LogMel(LOG_MEL["loudest is 0 dB"]), False),
    "log-mel mirrored": (LogMel(LOG_MEL["htk"]), False),
    "log-mel by convolution": (LogMel(LOG_MEL["hop divides nothing"]), False),
    "mel magnitude": (LogMel(LINEAR["magnitude"]), False),
    "mfcc": (Mfcc(MfccParameters(sample_rate=22_050)), False),
    "fbank": (Fbank(FbankParameters(sample_rate=16_000, frames=256)), False),
    "fbank with lengths": (Fbank(FbankParameters(sample_rate=16_000, frames=256)), True),
    "standardize": (Standardize(StandardizeParameters(sample_rate=16_000)), False),
    "standardize with lengths": (Standardize(StandardizeParameters(sample_rate=16_000)), True),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_graph_gives_the_modules_numbers(graph: str, tmp_path: Path) -> None:
    import onnxruntime
    import openvino

    module, with_lengths = GRAPHS[graph]
    random = np.random.default_rng(8)
    inputs = {"waveform": random.normal(0, 0.1, (3, 33_000)).astype(np.float32)}
    if with_lengths:
        inputs["lengths"] = np.array([33_000, 20_000, 16_001])
    path = tmp_path / "model.onnx"
    examples = {name: torch.from_numpy(array[:2]) for name, array in inputs.items()}
    write_graph(module, examples, "features", path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", exact)
    for batch in (1, 3):
        rows = {name: array[-batch:] for name, array in inputs.items()}
        expected = by_torch(module, *rows.values())
        for ours in (session.run(["features"], rows)[0], compiled(rows)["features"]):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=5e-4)


def test_parameters_come_from_the_card() -> None:
    mel = card((8000,), front_end=FrontEnd(kind="log_mel", parameters={"n_fft": 512, "hop": 256}))
    parameters = LogMelParameters.from_card(mel)
    assert (parameters.sample_rate, parameters.n_fft, parameters.hop, parameters.bins) == (
        16_000,
        512,
        256,
        257,
    )


@pytest.mark.parametrize(
    "front_end",
    [
        {"kind": "fbank"},
        {"kind": "log_mel", "parameters": {"n_ftt": 512}},
        {"kind": "log_mel", "parameters": {"mel_scale": "bark"}},
        {"kind": "log_mel", "parameters": {"hop": 0}},
        {"kind": "log_mel", "parameters": {"n_fft": 511}},
    ],
)
def test_a_card_with_another_front_end_is_refused(front_end: dict[str, Any]) -> None:
    with pytest.raises(CardError, match="front end"):
        LogMelParameters.from_card(card((8000,), front_end=front_end))


def test_the_host_forms_need_no_torch() -> None:
    code = (
        "import sys, bandstand.frontends.host\n"
        "print(sorted({'torch', 'librosa', 'transformers', 'onnx'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
