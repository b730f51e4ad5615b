"""Front ends on the host: log-mel and MFCC compared with librosa, and a drum CNN with Keras.

Log-mel and MFCC of 30 s go through the runner that serves such models on a CPU. The drum CNN is
AnNOTEator's, from the waveform; librosa and Keras do the same in a process of their own. All take
turns. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import librosa
import numpy as np

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.frontends.host import log_mel
from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import FRONT_END_TENSOR, Card, Tensor
from bandstand.models.installed import NETWORK_FILE
from bandstand.models.repository import ModelRepository
from bandstand.runners.base import FloatArray, Runner
from bandstand.runners.cores import available_cores
from bandstand.runners.host_front_end import HostFrontEndRunner
from bandstand.runners.load import load_runner
from bandstand.runners.onnx import OnnxRunner
from bandstand.settings import get_settings
from benchmarks.exporting import exported
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.keras_process import Ask, KerasProcess
from benchmarks.recordings import SAMPLE_RATE, real_clip
from benchmarks.report import RESULTS, Table, command_line, machine, write_report
from harness.cards import get_card

MODULE = "benchmarks.host_front_ends"
DRUMS = "annoteator_drum_cnn"
SECONDS = 30.0
BATCH = 32
N_FFT, HOP, N_MELS, N_MFCC = 2048, 512, 128, 20
WARM_UPS = 2
PAUSE_SECONDS = 0.3
"""Before each turn: threads of BLAS spin for a tenth of a second after the turn before."""
OURS, KERAS, READY = "Bandstand drum CNN", "Keras drum CNN", "pictures ready"
MOST_OF_LIBROSA = 1.0
MOST_OF_KERAS = 1 / 4

Kind = Literal["log_mel", "mfcc"]
Clock = Literal["cpu", "wall"]


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one turn."""

    cpu: float
    wall: float


@dataclass(slots=True)
class Contender:
    """What is measured, and its turns so far."""

    turn: Callable[[], Spent]
    turns: list[Spent] = field(default_factory=list)

    def seconds(self, clock: Clock) -> list[float]:
        """Return the turns on one clock."""
        return [spent.cpu if clock == "cpu" else spent.wall for spent in self.turns]


Contenders = dict[str, Contender]


def main() -> int:
    """Measure, print and write the report; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="turns of everybody (15)")
    parser.add_argument("--no-keras", action="store_true", help="leave the drum CNN out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    options = parser.parse_args()
    measured_on = machine()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = front_ends(directory)
        if not options.no_keras:
            contenders |= drum_cnn(directory, stack)
        take_turns(contenders, options.rounds)
    goals = goals_of(contenders)
    text = write_report(
        "host_front_ends",
        "Front ends on the host",
        command_line(MODULE),
        [goals_table(goals), times_table(contenders)],
        notes(options),
        measured_on=measured_on,
        directory=options.results,
    )
    print(text)
    return exit_code(goals)


def goals_of(contenders: Contenders) -> list[Goal]:
    """Return what is promised of those that took part."""
    goals = []
    for kind in get_args(Kind):
        share = ratio(contenders, f"Bandstand {kind}", f"librosa {kind}", "cpu")
        goals.append(Goal(f"{kind}: share of librosa's CPU time", share, MOST_OF_LIBROSA))
    if KERAS not in contenders:
        return goals
    for ours, theirs, whose in (
        (OURS, KERAS, "librosa and Keras"),
        (f"{OURS}, {READY}", f"{KERAS}, {READY}, predict", f"Keras's predict, {READY}"),
    ):
        for clock in get_args(Clock):
            what = f"drum CNN, batch {BATCH}: share of the {clock} time of {whose}"
            share = ratio(contenders, ours, theirs, clock)
            goals.append(Goal(what, share, MOST_OF_KERAS))
    return goals


def front_ends(directory: Path) -> Contenders:
    """Return log-mel and MFCC of a real clip, by Bandstand and by librosa."""
    samples = real_clip(SECONDS)
    mel = partial(
        librosa.feature.melspectrogram,
        y=samples,
        sr=SAMPLE_RATE,
        n_fft=N_FFT,
        hop_length=HOP,
        n_mels=N_MELS,
    )
    mfcc = partial(
        librosa.feature.mfcc,
        y=samples,
        sr=SAMPLE_RATE,
        n_mfcc=N_MFCC,
        n_fft=N_FFT,
        hop_length=HOP,
        n_mels=N_MELS,
    )

    def ours(kind: Kind) -> Contender:
        runner = short_network(kind, directory / kind)
        return _here(lambda: runner.run({"samples": samples[np.newaxis]}))

    return {
        "librosa log_mel": _here(lambda: librosa.power_to_db(mel(), top_db=None)),
        "Bandstand log_mel": ours("log_mel"),
        "librosa mfcc": _here(mfcc),
        "Bandstand mfcc": ours("mfcc"),
    }


def short_network(kind: Kind, directory: Path) -> Runner:
    """Return a model of one front end and a network that is next to nothing: means over time."""
    directory.mkdir()
    card = front_end_card(kind)
    write_means(card.outputs[0].shape[0], directory / NETWORK_FILE)
    open_runner = partial(OnnxRunner, threads=available_cores())
    return HostFrontEndRunner(card, directory / "model.onnx", open_runner)


def front_end_card(kind: Kind) -> Card:
    """Return the card of 30 s windows behind a front end of librosa's usual sizes."""
    bands = N_MFCC if kind == "mfcc" else N_MELS
    parameters = {"n_fft": N_FFT, "hop": HOP, "n_mels": N_MELS}
    parameters |= {"n_mfcc": N_MFCC} if kind == "mfcc" else {}
    fields: dict[str, Any] = {
        "name": "means",
        "task": "tags",
        "architecture": "means",
        "description": "Means over time, for measuring what is before them.",
        "source": {"uri": "file:none", "licence": "MIT", "trained_on": "nothing"},
        "window": {"sample_rate": SAMPLE_RATE, "seconds": SECONDS, "hop_seconds": SECONDS},
        "front_end": {"kind": kind, "parameters": parameters},
        "inputs": [{"name": "samples", "shape": (round(SECONDS * SAMPLE_RATE),)}],
        "outputs": [{"name": "logits", "shape": (bands,)}],
        "labels": [f"band {number}" for number in range(bands)],
        "activation": "sigmoid",
    }
    return Card.model_validate(fields)


def write_means(bands: int, path: Path) -> None:
    """Write the network `(n, frames, bands)` to `(n, bands)`."""
    from onnx import TensorProto, helper, numpy_helper, save

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", [FRONT_END_TENSOR, "time"], ["logits"], keepdims=0)],
        "means",
        [value(FRONT_END_TENSOR, TensorProto.FLOAT, ["batch", "frames", bands])],
        [value("logits", TensorProto.FLOAT, ["batch", bands])],
        [numpy_helper.from_array(np.array([1]), "time")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def drum_cnn(directory: Path, stack: ExitStack) -> Contenders:
    """Return AnNOTEator's network on 32 windows: the installed model, and Keras."""
    card = get_card(DRUMS)
    repository = ModelRepository(directory / "models")
    exported(DRUMS, repository)
    runner = load_runner(card, repository.latest(DRUMS).model_path)
    windows = drum_windows(card)
    pictures = {FRONT_END_TENSOR: log_mel(windows, LogMelParameters.from_card(card))}
    shape = pictures[FRONT_END_TENSOR].shape[1:]
    behind = card.model_copy(update={"inputs": (Tensor(name=FRONT_END_TENSOR, shape=shape),)})
    network_path = repository.latest(DRUMS).model_path.with_name(NETWORK_FILE)
    network = OnnxRunner(behind, network_path, threads=available_cores())
    keras = stack.enter_context(KerasProcess(card, windows, directory / "windows.npy"))

    def turn(ask: Ask) -> Spent:
        return Spent(*keras.turn(ask))

    return {
        KERAS: Contender(partial(turn, "librosa and call")),
        OURS: _here(lambda: runner.run({card.inputs[0].name: windows})),
        f"{KERAS}, {READY}": Contender(partial(turn, "call")),
        f"{KERAS}, {READY}, predict": Contender(partial(turn, "predict")),
        f"{OURS}, {READY}": _here(lambda: network.run(pictures)),
    }


def drum_windows(card: Card) -> FloatArray:
    """Return windows that follow each other in the drum recording, `(32, samples)`."""
    path = min((get_settings().data_dir / "drums").glob("*_Drum.flac"))
    waveform = decode(path.read_bytes(), DecodeLimits.from_settings(get_settings()))
    samples = resample(waveform, card.window.sample_rate).samples
    return np.resize(samples, (BATCH, card.window.samples))


def _here(work: Callable[[], object]) -> Contender:
    """Return work in this process; its CPU time is that of all threads."""

    def turn() -> Spent:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        return Spent(time.process_time() - cpu, time.perf_counter() - wall)

    return Contender(turn)


def take_turns(contenders: Contenders, rounds: int) -> None:
    """Have everybody take a turn in every round."""
    for contender in list(contenders.values()) * WARM_UPS:
        contender.turn()
    for _ in range(rounds):
        for contender in contenders.values():
            time.sleep(PAUSE_SECONDS)
            contender.turns.append(contender.turn())


def ratio(contenders: Contenders, one: str, other: str, clock: Clock) -> float:
    """Return the median over the rounds of one's time as a share of the other's."""
    pairs = zip(contenders[one].seconds(clock), contenders[other].seconds(clock), strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def times_table(contenders: Contenders) -> Table:
    """Return one row a contender."""
    rows: list[tuple[str | float, ...]] = []
    for name, contender in contenders.items():
        cpu = contender.seconds("cpu")
        wall = statistics.median(contender.seconds("wall"))
        figures = (statistics.median(cpu), min(cpu), max(cpu), wall)
        rows.append((name, *(round(1e3 * figure, 1) for figure in figures)))
    return Table("Milliseconds", ("", "CPU, median", "min", "max", "wall, median"), rows)


def notes(options: argparse.Namespace) -> list[str]:
    """Return how it was measured."""
    lines = [
        f"{options.rounds} rounds of all in turns after {WARM_UPS} warm-ups; goals are medians of "
        "the ratios within a round. CPU time is that of all threads of the process.",
        f"log_mel, mfcc: the first {SECONDS:g} s of a real recording at {SAMPLE_RATE} Hz, one at a "
        f"time; frames of {N_FFT}, a hop of {HOP}, {N_MELS} bands, {N_MFCC} coefficients. "
        "Bandstand's side is `HostFrontEndRunner` whole: its checks, the front end, and a graph of "
        "means in ONNX Runtime. librosa's: `power_to_db(melspectrogram(…))` and `mfcc(…)`.",
    ]
    if not options.no_keras:
        lines.append(
            f"Drum CNN: {BATCH} windows of a real recording, from samples to logits on both sides: "
            "`melspectrogram(…)` of each window and `network(pictures, training=False)` in a "
            "process of its own; Bandstand's runner here. Where pictures are ready, both sides "
            "get them for nothing, and the networks alone are compared: with `predict`, which is "
            "what AnNOTEator calls, and, without a goal, with the bare `network(…)`."
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
