"""Typed cards: one YAML file describes one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from bandstand.errors import CardError, ModelMismatchError
from bandstand.models.address import shown_address
from bandstand_client.contract.instruments import Sound
from bandstand_client.contract.models import Quality

Task = Literal["genre", "tags", "instruments", "drum_hits"]
Dtype = Literal["float32", "float16", "int64", "int32"]
Channels = Literal[1, 2]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,63}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]

FRONT_END_TENSOR = "front_end"
"""Name of the front end's output inside a graph that contains the front end, so that a runtime can
treat the two parts differently."""


class _CardPart(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # the address of a source can have credentials in it
    )


class Source(_CardPart):
    """Where the checkpoint comes from."""

    uri: str = Field(repr=False)
    """`hf://owner/name/file`, `https://…`, `s3://bucket/key`, `file:…`, or
    `package:name/path` (inside an installed package); where `files` are given, the folder that
    holds them."""
    files: tuple[FileName, ...] = ()
    """The files of a checkpoint that is a folder, the largest last; none: `uri` is one file."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hash of the content; a source without it is refused unless the caller allows it. For a
    folder: the hash of the output of `sha256sum` for its files, sorted by name."""
    licence: str
    """SPDX identifier, or a text."""
    trained_on: str
    """The data the weights were fitted to."""

    @property
    def shown(self) -> str:
        """The address for messages, reports and logs: without credentials."""
        return shown_address(self.uri)

    def without_credentials(self) -> Source:
        """Return this source with the address as it is shown."""
        return self.model_copy(update={"uri": self.shown})


class _AnyWindow(_CardPart):
    """What the windows of every kind have."""

    sample_rate: int = Field(gt=0)
    """Hz."""
    seconds: float = Field(gt=0)
    """Length of one window."""
    minimum_seconds: float = Field(0.0, ge=0)
    """Recordings shorter than this are refused (422)."""
    channels: Channels = 1
    """1: mono. 2: left and right; the model's first input is then `(2, samples)`."""

    @property
    def samples(self) -> int:
        """Length of one window in samples of one channel."""
        return round(self.seconds * self.sample_rate)


class HopWindow(_AnyWindow):
    """A window every `hop_seconds`, from the start of the recording to its end."""

    kind: Literal["hop"] = "hop"
    hop_seconds: float = Field(gt=0)
    """From the start of one window to the start of the next."""

    @property
    def hop_samples(self) -> int:
        """Distance between window starts in samples."""
        return round(self.hop_seconds * self.sample_rate)


class OnsetWindow(_AnyWindow):
    """A window at every onset, as `bandstand.frontends.onsets` finds them."""

    kind: Literal["onsets"]
    before_seconds: float = Field(0.0, ge=0)
    """Time from the start of a window to its onset; less than `seconds`."""

    @property
    def before_samples(self) -> int:
        """Samples from the start of a window to its onset."""
        return round(self.before_seconds * self.sample_rate)

    @model_validator(mode="after")
    def _the_onset_is_in_the_window(self) -> OnsetWindow:
        if self.before_seconds >= self.seconds:
            raise ValueError(
                f"a window of {self.seconds:g} s ends before its onset at {self.before_seconds:g} s"
            )
        return self


def _window_kind(window: Any) -> Any:
    """Return the kind of a window; cards that do not say it have windows by hop."""
    if isinstance(window, dict):
        return window.get("kind", "hop")
    return getattr(window, "kind", "hop")


Window = Annotated[
    Annotated[HopWindow, Tag("hop")] | Annotated[OnsetWindow, Tag("onsets")],
    Discriminator(_window_kind),
]
"""How a recording is cut for the model."""


class FrontEnd(_CardPart):
    """How the network's input is computed from samples; `parameters` depend on the kind."""

    kind: Name
    parameters: dict[str, float | int | str | bool] = {}


class Tensor(_CardPart):
    """One named input or output; `shape` leaves out the batch axis, which always comes first."""

    name: str
    dtype: Dtype = "float32"
    shape: tuple[int, ...]


class Tolerance(_CardPart):
    """Allowed difference of two runtimes' outputs: |a - b| <= absolute + relative * |b|."""

    relative: float = 1e-4
    absolute: float = 1e-5


class Batch(_CardPart):
    """Limits of dynamic batching."""

    max_size: int = Field(16, gt=0)
    """Most windows in one call."""
    max_delay_ms: float = Field(0.0, ge=0)
    """Time a window may wait for others while the runner is idle."""
    one_by_one_on_cpu: bool = False
    """On a CPU, compute windows one after the other. If one window keeps all cores busy, larger
    batches are no faster and need more memory."""


class Triton(_CardPart):
    """Settings of a model on a Triton server; the other runtimes ignore them."""

    accelerator: Literal["none", "cuda", "tensorrt"] = "none"
    """On a GPU. `none`: ONNX Runtime's CUDA provider as it is, which rounds to TF32. `cuda`: in
    full f32, and convolutions over time in cuDNN's fast layout. `tensorrt`: an engine of
    `precision`, which takes minutes to build at the first load. Without a GPU the value is
    ignored."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Arithmetic of the TensorRT engine; `fp16` changes the outputs, so measure it first."""
    instances: int = Field(1, gt=0)
    """Copies of the model on each GPU, or on the CPU."""
    response_cache: bool = False
    """Answer equal windows from the server's cache, if it has one."""
    resources: dict[str, int] = {}
    """Resources of the server's rate limiter that one execution takes, by name. Models that share a
    GPU take turns if each takes one of one."""


class InputSpecification(_CardPart):
    """The parts of a card that determine how a recording is prepared; many models share them."""

    window: Window
    front_end: FrontEnd

    @property
    def key(self) -> str:
        """Canonical JSON: equal for equal specifications, in every process."""
        return self.model_dump_json()


class Card(_CardPart):
    """The description of a model: task, source, window, front end, tensors, labels, quality."""

    name: Name
    task: Task
    architecture: Name
    description: str
    source: Source
    window: Window
    front_end: FrontEnd
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    labels: tuple[str, ...] = ()
    """Names of the first output's columns. If empty, the checkpoint's configuration has them; the
    card of an installed version always has labels (`InstalledModel.card`)."""
    instruments: dict[str, Sound] = {}
    """The labels that are musical instruments, and whether the sound is acoustic, electronic (a
    pickup and an amplifier count as electronic), or either. A model with instruments serves the
    operation that detects them."""
    activation: Literal["softmax", "sigmoid", "none"]
    """Function from the first output to probabilities; it is applied outside the graph."""
    tolerance: Tolerance = Tolerance()
    batch: Batch = Batch()
    triton: Triton = Triton()
    runner: Literal["shared", "own"] = "shared"
    """Which process of the server runs it. `shared`: with all others that say so; a process costs
    more than a model of a few MB. `own`: for models of some hundred MB, or that compute for long;
    one that is installed while the server runs gets its own at the next start."""
    prefers: Literal["f32", "bf16"] = "f32"
    """Best arithmetic for this model on CPUs that have it."""
    embedded: bool = False
    """Part of Bandstand: the model needs no download."""
    quality: tuple[Quality, ...] = ()

    @property
    def input_specification(self) -> InputSpecification:
        """The values that determine how a recording is prepared for the model."""
        return InputSpecification(window=self.window, front_end=self.front_end)

    def with_labels(self, labels: tuple[str, ...]) -> Card:
        """Return this card with the labels of a checkpoint, and with its instruments among them.

        Raises:
            ModelMismatchError: the number of labels is not that of the first output's columns, or a
                label occurs twice.
        """
        known = {label: self.instruments[label] for label in labels if label in self.instruments}
        changes = {"labels": labels, "instruments": known}
        try:
            return Card.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            raise ModelMismatchError(f"{self.name}: labels: {error.errors()[0]['msg']}") from error

    @model_validator(mode="after")
    def _labels_fit_the_output(self) -> Card:
        if self.labels and self.outputs[0].shape[-1] != len(self.labels):
            raise ValueError(
                f"{len(self.labels)} labels for an output of {self.outputs[0].shape[-1]}"
            )
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label occurs twice")
        return self

    @model_validator(mode="after")
    def _two_channels_fit_the_input(self) -> Card:
        wanted = (self.window.channels, self.window.samples)
        if self.window.channels > 1 and self.inputs[0].shape != wanted:
            raise ValueError(
                f"windows of {self.window.channels} channels for an input of "
                f"{self.inputs[0].shape}; it must be {wanted}"
            )
        return self

    @model_validator(mode="after")
    def _instruments_are_labels(self) -> Card:
        unknown = self.instruments.keys() - self.labels
        if self.labels and unknown:
            raise ValueError(f"instruments that are not labels: {sorted(unknown)}")
        return self


def load_card(path: Path) -> Card:
    """Read one card.

    Raises:
        CardError: the file is not YAML, or not a card; the message names the file and the field.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        card = Card.model_validate(content)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise CardError(f"{path.name}: {error}") from error
    if card.name != path.stem:
        raise CardError(f"{path.name}: the card's name is {card.name!r}")
    return card
