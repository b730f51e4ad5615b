"""The architecture `keras_cnn`: waveforms through a mel or MFCC front end to a Keras network.

The checkpoint's network ends in an activation; the graph leaves it out, so that the activations of
all cards are applied in the same place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bandstand.errors import CardError, CheckpointError, ModelMismatchError
from bandstand.frontends.mel import FloatArray
from bandstand.frontends.parameters import LogMelParameters, MfccParameters
from bandstand.models.card import FRONT_END_TENSOR, Card
from bandstand.pipelines.model_output import activate
from bandstand.runners.base import Array
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.join import join
from bandstand_exporters.keras_checkpoint import load_sequential, read_metadata
from bandstand_exporters.librosa_front_end import librosa_log_mel, librosa_mfcc
from bandstand_exporters.source_model import Examples

NEWEST_OF_TF2ONNX = 18
"""Its newest operator set; onnx takes the network on from there."""
PICTURE_AXES = 3
"""Rows, columns, channel."""
PROBABILITY_TOLERANCE = 1e-5
"""Rounding of Keras' own activation in float32."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The front end's output, and the network's input.

    Attributes:
        frames: of a window.
        bands: of a frame.
        seen: number of frames that the network takes, from the first.
        bands_first: its rows are bands, not frames.
    """

    frames: int
    bands: int
    seen: int
    bands_first: bool

    @property
    def picture(self) -> tuple[int, int, int]:
        """The shape that the network takes."""
        return (self.bands, self.seen, 1) if self.bands_first else (self.seen, self.bands, 1)

    def arrange(self, frames: Any, transpose: Callable[..., Any] = np.transpose) -> Any:
        """Return `(n, frames, bands)` as pictures `(n, *picture)`; `transpose` is the library's."""
        seen = frames[:, : self.seen]
        return (transpose(seen, (0, 2, 1)) if self.bands_first else seen)[..., None]


class KerasCnn:
    """An opened Keras checkpoint, with the front end of its card."""

    def __init__(self, card: Card, layout: Layout, network: Any) -> None:
        self._card = card
        self._layout = layout
        self._network = network
        self._logits_network = _without_activation(network)
        self._compute = _compiled(self._logits_network, network)
        self.labels = card.labels  # the checkpoint has no labels, but the same number of outputs
        self.framework = f"Keras {version('keras')} on frames of librosa {version('librosa')}"

    def examples(self) -> Examples:
        """Return windows of real recordings, and silence."""
        return example_windows(self._card)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the logits with librosa and Keras.

        Raises:
            ModelMismatchError: the checkpoint's own probabilities are not those of the logits.
        """
        (samples,) = inputs.values()
        picture = self._layout.arrange(_librosa_frames(self._card, samples))
        logits, wanted = map(np.asarray, self._compute(picture))
        apart = np.abs(activate(self._card, logits) - wanted).max()
        if not apart <= PROBABILITY_TOLERANCE:
            raise ModelMismatchError(
                f"{self._card.name}: {self._card.activation} of the logits is {apart:.3g} away "
                "from what the checkpoint answers"
            )
        return {self._card.outputs[0].name: logits}

    def write_onnx(self, path: Path) -> None:
        """Export the front end by torch's graph capture, the network by tf2onnx, and join them."""
        import onnx

        with tempfile.TemporaryDirectory() as directory:
            part = Path(directory) / "front_end.onnx"
            _write_front_end(self._card, part)
            front_end = onnx.load(str(part))
        graph = join(
            front_end,
            _network_graph(self._logits_network, self._layout),
            name=self._card.name,
            input_name=self._card.inputs[0].name,
            output_name=self._card.outputs[0].name,
        )
        onnx.save(graph, str(path))


def open_source(card: Card, checkpoint: Path) -> KerasCnn:
    """Open a checkpoint of a sequential Keras network, `.h5` or `.keras`; no code of it is run.

    Raises:
        CardError: the card's front end is none of those that these networks have.
        CheckpointError: damaged, code in it, or other labels, activation or frames than the card's.
        ModelMismatchError: the card has other than one input and one output.
    """
    if len(card.inputs) != 1 or len(card.outputs) != 1:
        raise ModelMismatchError(f"{card.name}: a keras_cnn has one input and one output")
    metadata = read_metadata(checkpoint)
    if metadata.units != len(card.labels):
        raise CheckpointError(
            f"{checkpoint.name} has {metadata.units} outputs, {card.name} has {len(card.labels)} "
            "labels: it is another model's checkpoint, or the card's list is wrong"
        )
    if metadata.activation != card.activation:
        raise CheckpointError(
            f"{checkpoint.name} ends in {metadata.activation}, {card.name} in {card.activation}"
        )
    return KerasCnn(card, _layout(card, metadata.input_shape), load_sequential(checkpoint))


def _layout(card: Card, picture: tuple[int, ...]) -> Layout:
    """Compare the front end's output with the network's input."""
    parameters = _parameters(card)
    bands = parameters.n_mfcc if isinstance(parameters, MfccParameters) else parameters.n_mels
    frames = parameters.frames(card.window.samples)
    for bands_first in (False, True) if len(picture) == PICTURE_AXES else ():
        layout = Layout(frames, bands, picture[1 if bands_first else 0], bands_first)
        if layout.picture == picture and layout.seen <= frames:
            return layout
    raise CheckpointError(
        f"{card.name}: its front end gives {frames} frames of {bands} bands, the checkpoint's "
        f"network takes {list(picture)}: it is another model's checkpoint"
    )


def _parameters(card: Card) -> LogMelParameters:
    for kind in (LogMelParameters, MfccParameters):
        if card.front_end.kind == kind.kind:
            return kind.from_card(card)
    raise CardError(f"{card.name}: a keras_cnn has no front end {card.front_end.kind!r}")


def _librosa_frames(card: Card, samples: FloatArray) -> FloatArray:
    parameters = _parameters(card)
    if isinstance(parameters, MfccParameters):
        return librosa_mfcc(samples, parameters)
    return librosa_log_mel(samples, parameters)


def _without_activation(network: Any) -> Any:
    """Return a copy of a network whose outputs are logits."""
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.layers[-1].activation = keras.activations.linear
    return copy


def _compiled(*networks: Any) -> Callable[[FloatArray], tuple[Any, ...]]:
    """Return what computes networks of the same input in one call, each as Keras does it.

    Keras' own calls take ten times as long, layer by layer.
    """
    import tensorflow

    function = tensorflow.function(
        lambda picture: tuple(network(picture, training=False) for network in networks),
        reduce_retracing=True,
    )
    return lambda picture: function(tensorflow.constant(picture, tensorflow.float32))


def _write_front_end(card: Card, path: Path) -> None:
    """Write the graph from waveforms to frames, `(n, frames, bands)`."""
    import torch  # takes seconds, and is not needed to refuse another model's checkpoint

    from bandstand.frontends.logmel import LogMel
    from bandstand.frontends.mfcc import Mfcc
    from bandstand_exporters.torch_graph import write_graph

    parameters = _parameters(card)
    front_end: torch.nn.Module = LogMel(parameters)
    if isinstance(parameters, MfccParameters):
        front_end = Mfcc(parameters)
    samples = torch.zeros(2, card.window.samples)
    write_graph(front_end, {"samples": samples}, FRONT_END_TENSOR, path)


def _network_graph(network: Any, layout: Layout) -> Any:
    """Return a Keras network as an ONNX model that takes `frames`, `(n, frames, bands)`.

    tf2onnx's `from_keras` does not know Keras 3.
    """
    import tensorflow
    import tf2onnx
    from onnx import version_converter

    from bandstand_exporters.torch_graph import OPSET

    def logits(frames: Any) -> Any:
        return network(layout.arrange(frames, tensorflow.transpose), training=False)

    shape = (None, layout.frames, layout.bands)
    graph, _ = tf2onnx.convert.from_function(
        tensorflow.function(logits),
        input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32, name="frames")],
        opset=NEWEST_OF_TF2ONNX,
    )
    for imported in [other for other in graph.opset_import if other.domain]:
        graph.opset_import.remove(imported)  # declared, and not used
    return version_converter.convert_version(graph, OPSET)
