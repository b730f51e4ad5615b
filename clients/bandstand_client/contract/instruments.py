"""The instruments that play in a recording."""

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
"""What makes an instrument's sound: a body that vibrates, electricity (a pickup and amplifier
count), or one or the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentsOptions:
    """What may be asked for."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_OPTIONS

    model_name: Annotated[
        str | None,
        Option(
            "The model to ask (default: the best that is served).",
            longest=64,
            flags=("--model", "-m"),
        ),
    ] = None
    threshold: Annotated[
        float,
        Option(
            "Least probability of an instrument that is listed.",
            least=0,
            most=1,
            flags=("--threshold", "-t"),
        ),
    ] = 0.3


@dataclass(frozen=True, slots=True)
class InstrumentScore:
    """One instrument and how sure the model is that it plays."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    instrument: str
    """As people call it."""
    label: str
    """As the model calls it."""
    probability: Probability
    """Each instrument has one of its own."""
    confidence: Percent
    """The probability in percent."""
    raw_score: float
    """What the model itself said, averaged over windows, before its activation."""
    sound: Sound
    """What makes it: a body that vibrates, electricity, or one or the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentsAnswer:
    """The answer of `POST /detect/instruments`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = SCHEMA_OF_ANSWERS

    instruments: tuple[InstrumentScore, ...]
    """Those at or above the threshold, most certain first."""
    primary: str | None
    """The most certain of them."""
    has_acoustic: bool
    """One of them sounds without electricity."""
    has_electronic: bool
    """One of them needs it."""
    threshold: Probability
    """Probability from which an instrument was listed."""
    all_scores: dict[str, float]
    """Every instrument's probability (0 to 1)."""
    method: str
    """The model."""
    members: tuple[Member, ...]
    audio: AudioMetadata
    timings_ms: dict[str, float]
    """Where the time went, by stage."""


DETECT_INSTRUMENTS = Operation(
    name="detect_instruments",
    path="/detect/instruments",
    triton_model="tag_instruments",
    command="instruments",
    options=InstrumentsOptions,
    answer=InstrumentsAnswer,
    summary="Name the instruments of a recording, and whether they are acoustic or electronic.",
)
