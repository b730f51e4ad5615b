"""The instruments of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from bandstand_client.contract.declaration import (
    SCHEMA_OF_ANSWERS,
    SCHEMA_OF_OPTIONS,
    Operation,
    Option,
)
from bandstand_client.contract.shared import AudioMetadata, Member, Percent, Probability

Sound = Literal["acoustic", "electronic", "either"]
"""Whether an instrument's sound is acoustic, electronic (a pickup and an amplifier count as
electronic), or either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentsOptions:
    """The options of `detect_instruments`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_OPTIONS

    model_name: Annotated[
        str | None,
        Option(
            "The model's name (default: the best that is served).",
            longest=64,
            flags=("--model", "-m"),
        ),
    ] = None
    threshold: Annotated[
        float,
        Option(
            "Lowest probability of a listed instrument.",
            least=0,
            most=1,
            flags=("--threshold", "-t"),
        ),
    ] = 0.3


@dataclass(frozen=True, slots=True)
class InstrumentScore:
    """One instrument and its probability."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    instrument: str
    """Its name for people."""
    label: str
    """The model's label."""
    probability: Probability
    """Independent of those of the other instruments."""
    confidence: Percent
    """The probability in percent."""
    raw_score: float
    """The model's output before its activation, averaged over windows."""
    sound: Sound
    """Whether the sound is acoustic, electronic, or either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentsAnswer:
    """The answer of `POST /detect/instruments`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    instruments: tuple[InstrumentScore, ...]
    """Instruments at or above the threshold, the most probable first."""
    primary: str | None
    """The most probable instrument."""
    has_acoustic: bool
    """One of the instruments is acoustic."""
    has_electronic: bool
    """One of the instruments is electronic."""
    threshold: Probability
    """Lowest probability of a listed instrument."""
    all_scores: dict[str, float]
    """Every instrument's probability (0 to 1)."""
    method: str
    """The model."""
    members: tuple[Member, ...]
    audio: AudioMetadata
    timings_ms: dict[str, float]
    """Milliseconds of each stage."""


DETECT_INSTRUMENTS = Operation(
    name="detect_instruments",
    path="/detect/instruments",
    triton_model="tag_instruments",
    command="instruments",
    options=InstrumentsOptions,
    answer=InstrumentsAnswer,
    summary="Name the instruments of a recording, and whether they are acoustic or electronic.",
)
