"""The parameters of the front ends, read from cards, and the values computed from them.

The torch modules (`logmel`, `mfcc`, `fbank`, `standardize`) and the host forms (`host`) take the
same objects. Defaults are those of the library that the front end is named after.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import scipy.fft
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from bandstand.errors import CardError
from bandstand.frontends.mel import DoubleArray, FloatArray, MelScale, mel_filter_bank
from bandstand.frontends.stft import frame_count
from bandstand.models.card import Card

_STRICT = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class FrontEndParameters:
    """Parameters of every front end."""

    kind: ClassVar[str]
    """The `front_end.kind` of its cards."""

    _: KW_ONLY
    sample_rate: Count
    """Hz; the rate of the card's window."""

    @classmethod
    def from_card(cls, card: Card) -> Self:
        """Read the parameters of a card's front end.

        Raises:
            CardError: the card has another front end, or parameters that this one does not have.
        """
        if card.front_end.kind != cls.kind:
            raise CardError(f"{card.name}: its front end is {card.front_end.kind}, not {cls.kind}")
        own: dict[str, Any] = dict(card.front_end.parameters)
        try:
            return cls(sample_rate=card.window.sample_rate, **own)
        except (TypeError, ValidationError) as error:
            raise CardError(f"{card.name}: front end: {error}") from error


@dataclass(frozen=True, config=_STRICT)
class LogMelParameters(FrontEndParameters):
    """A mel spectrogram and its scale: `librosa.feature.melspectrogram` and what usually follows.

    Frames are weighted with the periodic Hann window as long as the transform.
    """

    kind: ClassVar[str] = "log_mel"

    _: KW_ONLY
    n_fft: Annotated[int, Field(gt=0, multiple_of=2)] = 2048
    """Samples in a frame, and length of the transform."""
    hop: Count = 512
    """Samples from frame to frame."""
    n_mels: Count = 128
    """Mel bands."""
    low_hz: Annotated[float, Field(ge=0)] = 0.0
    """Lower edge of the first band."""
    high_hz: Positive | None = None
    """Upper edge of the last band; None: half the sample rate."""
    mel_scale: MelScale = "slaney"
    """Where the bands are: Slaney's scale, or that of HTK."""
    area_normalised: bool = True
    """Bands have area 1 (librosa's `norm="slaney"`) instead of peak 1."""
    spectrum: Literal["power", "magnitude"] = "power"
    """What the bands sum up."""
    padding: Literal["constant", "reflect", "none"] = "constant"
    """`constant`, `reflect`: frames are centred on multiples of the hop, and both ends are padded
    by half a frame, with zeros or mirrored. `none`: the first frame starts at sample 0."""
    level: Literal["decibels", "natural_log", "linear"] = "decibels"
    """Scale of the result. Decibels are 10 log10 of power, 20 log10 of magnitude."""
    floor: Positive = 1e-10
    """Smaller values count as this before a logarithm; in the unit of `spectrum`."""
    reference: Literal["one", "max"] = "one"
    """What 0 dB is: the value 1, or the clip's largest."""
    dynamic_range_db: Positive | None = None
    """Values further below the clip's largest are raised to this many dB below it; None leaves
    them (librosa's `top_db`)."""

    @property
    def bins(self) -> int:
        """Frequencies of the spectrum."""
        return self.n_fft // 2 + 1

    @property
    def edge(self) -> int:
        """Samples that are padded at either end."""
        return 0 if self.padding == "none" else self.n_fft // 2

    @property
    def decibels_per_decade(self) -> float:
        """Decibels of a factor of ten in `spectrum`'s unit."""
        return 10.0 if self.spectrum == "power" else 20.0

    @property
    def filter_bank(self) -> FloatArray:
        """The bands, `(n_mels, bins)`, read-only."""
        return mel_filter_bank(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            low_hz=self.low_hz,
            high_hz=self.high_hz,
            scale=self.mel_scale,
            area_normalised=self.area_normalised,
        )

    def frames(self, samples: int) -> int:
        """Return the number of frames of a clip of that many samples."""
        return frame_count(samples + 2 * self.edge - self.n_fft, self.hop)


@dataclass(frozen=True, config=_STRICT)
class MfccParameters(LogMelParameters):
    """Mel-frequency cepstral coefficients as `librosa.feature.mfcc` has them.

    They are the first values of the orthonormal DCT-II over the bands of the log-mel spectrogram.
    """

    kind: ClassVar[str] = "mfcc"

    _: KW_ONLY
    n_mfcc: Count = 20
    """Coefficients."""
    dynamic_range_db: Positive | None = 80.0
    """As above; here librosa limits it."""

    @property
    def cosines(self) -> DoubleArray:
        """The orthonormal DCT-II as a matrix, `(n_mels, n_mfcc)`."""
        matrix: DoubleArray = scipy.fft.dct(np.eye(self.n_mels), axis=1, norm="ortho")
        return matrix[:, : self.n_mfcc]


@dataclass(frozen=True, config=_STRICT)
class FbankParameters(FrontEndParameters):
    """Kaldi's filter bank as transformers' `ASTFeatureExtractor` has it.

    Each frame loses its mean, is pre-emphasised and weighted with the symmetric Hann window; the
    natural logarithms of the band energies are standardised with AudioSet's statistics.
    """

    kind: ClassVar[str] = "fbank"

    _: KW_ONLY
    frames: Count = 1024
    """Frames of the result; longer clips are cut, shorter ones padded."""
    n_mels: Count = 128
    """Mel bands; triangles over the mel axis."""
    frame_length: Annotated[int, Field(gt=1)] = 400
    """Samples in a frame."""
    hop: Count = 160
    """Samples from frame to frame."""
    n_fft: Annotated[int, Field(gt=0, multiple_of=2)] = 512
    """Length of the transform; frames are padded with zeros up to it."""
    preemphasis: float = 0.97
    """Share of the sample before that is subtracted from each sample."""
    low_hz: Annotated[float, Field(ge=0)] = 20.0
    """Lower edge of the first band."""
    floor: Positive = float(np.finfo(np.float32).eps)
    """Smaller energies count as this."""
    mean: float = -4.2677393
    """Mean of AudioSet's log energies; it becomes 0."""
    std: Positive = 4.5689974
    """Their standard deviation; it becomes 0.5."""

    @property
    def samples(self) -> int:
        """Samples that all frames together cover; later samples are ignored."""
        return (self.frames - 1) * self.hop + self.frame_length

    @property
    def filter_bank(self) -> FloatArray:
        """The bands, `(n_mels, n_fft // 2 + 1)`, read-only."""
        return mel_filter_bank(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            low_hz=self.low_hz,
            scale="htk",  # Kaldi's 1127 ln(1 + f / 700) is HTK's up to a factor, which cancels
            straight_over="mel",
            area_normalised=False,
        )


@dataclass(frozen=True, config=_STRICT)
class StandardizeParameters(FrontEndParameters):
    """Zero mean and unit variance as transformers' `Wav2Vec2FeatureExtractor` has it."""

    kind: ClassVar[str] = "standardize"

    _: KW_ONLY
    epsilon: Positive = 1e-7
    """Added to the variance, so that silence stays finite."""
