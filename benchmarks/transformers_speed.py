"""Wav2Vec2 and AST as Bandstand runs them on this CPU against transformers' own pipeline.

Weights are random, with the real sizes, so accuracy is not measured. Everything runs in
this process, in turns, on 10 s of a real recording, from decoded samples to logits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.frontends.fbank import Fbank
from bandstand.frontends.host import fbank
from bandstand.frontends.parameters import FbankParameters
from bandstand.models.card import Card
from bandstand.models.installed import MODEL_FILE
from bandstand.runners.base import FloatArray, Runner
from bandstand.runners.cores import available_cores
from bandstand.runners.load import load_runner
from bandstand.settings import get_settings
from bandstand_exporters import ast_classifier, wav2vec2
from bandstand_exporters.cut import has_host_form, write_host_form
from bandstand_exporters.torch_graph import write_graph
from bandstand_exporters.transformers_classifier import TransformersClassifier
from benchmarks.goals import Goal, exit_code, goals_table
from benchmarks.report import RESULTS, Table, machine, write_report
from harness.cards import get_card
from harness.transformers_checkpoints import write_ast, write_wav2vec2

COMMAND = "python -m benchmarks.transformers_speed"
RATE = 16_000
FRONT_END_BATCH = 8
MATRIX = 2048
"""Rows and columns of the matrices whose product in bf16 is taken for the CPU's peak."""
PRODUCTS = tuple(f"product {number}" for number in range(5))
"""So many in each round."""
GIGA = 1e9
WARM_UPS = 2
PAUSE_SECONDS = 0.2
"""Before each call: threads of BLAS and OpenMP spin for a while after the call before."""
LEAST_SPEED_UP = {"genre_wav2vec2": 2.2, "instruments_ast": 1.9}
LEAST_SHARE_OF_PEAK = 0.8
LARGEST_FRONT_END_SHARE = 0.2

Call = Callable[[], Any]


@dataclass(frozen=True)
class Model:
    """One model in both forms."""

    card: Card
    source: TransformersClassifier
    runner: Runner
    pipeline: Any
    gigaflop: float
    """Of one window: multiplications and additions of convolutions, products, and attention."""


@dataclass
class Times:
    """Seconds of each round, by contender."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ratio(self, slow: str, fast: str) -> float:
        """Return the median over the rounds of how much longer one takes."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)


def main() -> int:
    """Measure, print, write the report; return 0 if all goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=LEAST_SPEED_UP, action="append")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    names = arguments.only or list(LEAST_SPEED_UP)
    measured_on = machine()
    torch.set_num_threads(available_cores())
    samples = real_samples()
    with tempfile.TemporaryDirectory() as directory:
        # First, while there are no other runtimes' threads to be counted with it.
        front_ends = front_end_calls(Path(directory), samples)
        cpu_times = in_turns(front_ends, arguments.rounds, time.process_time)
        models = [prepare(name, Path(directory)) for name in names]
        print("measuring", file=sys.stderr)
        times = in_turns(contenders(models, samples), arguments.rounds, time.perf_counter)
    products = [min(times.seconds[name]) for name in PRODUCTS]
    peak = 2 * MATRIX**3 / min(products) / GIGA
    goals = model_goals(models, times, peak)
    goals.append(
        Goal(
            f"AST's front end, batch {FRONT_END_BATCH}: host's share of the extractor's CPU time",
            1 / cpu_times.ratio("extractor", "host"),
            LARGEST_FRONT_END_SHARE,
        )
    )
    tables = [
        goals_table(goals),
        *(model_table(model, times, peak, samples) for model in models),
        Table(
            f"AST's front end, batch {FRONT_END_BATCH}",
            ("", "median CPU ms"),
            [(name, statistics.median(s) * 1e3) for name, s in cpu_times.seconds.items()],
        ),
    ]
    notes = [
        f"{arguments.rounds} rounds of all contenders in turns after {WARM_UPS} warm-ups; ratios "
        "are medians of the ratios within a round.",
        f"Peak: {peak:.0f} GFLOP/s, the fastest product of two bf16 matrices of {MATRIX} rows in "
        f"torch; {len(PRODUCTS)} in every round.",
        "transformers: `pipeline('audio-classification')`, float32, as many threads.",
        "AST's front end: a CPU runs the host's form, a GPU the graph's.",
        "Random weights of the real sizes, seeded; differences are drift of arithmetic.",
    ]
    title = "Transformers on a CPU: 10 s of audio to logits"
    print(
        write_report(
            "transformers_speed",
            title,
            COMMAND,
            tables,
            notes,
            measured_on=measured_on,
            directory=arguments.results,
        )
    )
    return exit_code(goals)


def real_samples() -> FloatArray:
    """Return the first 10 s of the first real recording that is long enough, `(160000,)`.

    Raises:
        FileNotFoundError: there is none; `BANDSTAND_DATA_DIR` names the data folder.
    """
    wanted = get_card("genre_wav2vec2").window.samples
    directory = get_settings().data_dir / "audio"
    for path in sorted(directory.glob("*.ogg")):
        decoded = decode(path.read_bytes(), DecodeLimits.from_settings(get_settings()))
        samples = resample(decoded, RATE).samples
        if len(samples) >= wanted:
            return samples[:wanted]
    raise FileNotFoundError(f"no recording of 10 s in {directory} (BANDSTAND_DATA_DIR)")


def prepare(name: str, directory: Path) -> Model:
    """Write a checkpoint of the real size, export it, and load both forms."""
    from transformers import AutoConfig, AutoModelForAudioClassification, pipeline

    print(f"preparing {name}", file=sys.stderr)
    write, exporter = {
        "genre_wav2vec2": (write_wav2vec2, wav2vec2),
        "instruments_ast": (write_ast, ast_classifier),
    }[name]
    card, folder = get_card(name), directory / name
    graph = folder / MODEL_FILE
    write(folder)
    source = exporter.open_source(card, folder)
    source.write_onnx(graph)
    if has_host_form(card):
        write_host_form(card, graph)
    with torch.device("meta"):  # counted without computing; attention as plain products
        config = AutoConfig.from_pretrained(folder)
        plain = AutoModelForAudioClassification.from_config(config, attn_implementation="eager")
        shape = (1, config.max_length, config.num_mel_bins) if "ast" in name else (1, 10 * RATE)
        example = torch.zeros(shape)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        plain.eval()(example)
    return Model(
        card,
        source,
        load_runner(card, graph),
        pipeline("audio-classification", model=str(folder), device="cpu"),
        counter.get_total_flops() / GIGA,
    )


def contenders(models: Sequence[Model], samples: FloatArray) -> dict[str, Call]:
    """Return the calls that are measured."""
    matrix = torch.randn(MATRIX, MATRIX).bfloat16()
    calls: dict[str, Call] = dict.fromkeys(PRODUCTS, partial(torch.mm, matrix, matrix))
    for model in models:
        name = model.card.name
        raw = {"raw": samples, "sampling_rate": RATE}
        calls[f"transformers {name}"] = partial(model.pipeline, raw)
        inputs = {model.card.inputs[0].name: samples[None]}
        calls[f"bandstand {name}"] = partial(model.runner.run, inputs)
    return calls


def front_end_calls(directory: Path, samples: FloatArray) -> dict[str, Call]:
    """Return AST's front end as transformers, the host, and a graph in ONNX Runtime have it."""
    import onnxruntime
    from transformers import ASTFeatureExtractor

    batch = np.repeat(samples[None], FRONT_END_BATCH, axis=0)
    path = directory / "fbank.onnx"
    parameters = FbankParameters.from_card(get_card("instruments_ast"))
    write_graph(Fbank(parameters), {"samples": torch.zeros(2, len(samples))}, "front_end", path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        extractor = ASTFeatureExtractor()
    return {
        "extractor": lambda: extractor(list(batch), sampling_rate=RATE, return_tensors="np"),
        "host": lambda: fbank(batch, parameters),
        "graph": lambda: session.run(None, {"samples": batch}),
    }


def in_turns(calls: dict[str, Call], rounds: int, clock: Callable[[], float]) -> Times:
    """Measure each call once in every round."""
    for call in list(calls.values()) * WARM_UPS:
        call()
    times = Times({name: [] for name in calls})
    with torch.inference_mode():
        for _ in range(rounds):
            for name, call in calls.items():
                time.sleep(PAUSE_SECONDS)
                started = clock()
                call()
                times.seconds[name].append(clock() - started)
    return times


def model_goals(models: Sequence[Model], times: Times, peak: float) -> list[Goal]:
    """Return the goals of each model."""
    goals = []
    for model in models:
        name = model.card.name
        ratio = times.ratio(f"transformers {name}", f"bandstand {name}")
        goals.append(
            Goal(f"{name}: share of transformers' time", 1 / ratio, 1 / LEAST_SPEED_UP[name])
        )
    for model in models:
        if model.card.name == "genre_wav2vec2":
            goals.append(
                Goal(
                    "genre_wav2vec2: peak over its rate",
                    peak / rate(model, times),
                    1 / LEAST_SHARE_OF_PEAK,
                )
            )
    return goals


def rate(model: Model, times: Times) -> float:
    """Return the GFLOP/s of Bandstand's fastest round."""
    return model.gigaflop / min(times.seconds[f"bandstand {model.card.name}"])


def model_table(model: Model, times: Times, peak: float, samples: FloatArray) -> Table:
    """Return both contenders of one model."""
    name = model.card.name
    inputs = {model.card.inputs[0].name: samples[None]}
    output = model.card.outputs[0].name
    wanted, found = model.source.run(inputs)[output], model.runner.run(inputs)[output]
    moved = np.abs(found - wanted).max() / np.abs(wanted).max()
    ours, theirs = f"bandstand {name}", f"transformers {name}"
    info = model.runner.info
    return Table(
        f"{name}, {model.gigaflop:.0f} GFLOP a window",
        ("", "median s", "fastest s", "faster by", "share of peak", "largest relative change"),
        [
            row("transformers, f32", times.seconds[theirs], 1.0, model.gigaflop / peak, 0.0),
            row(
                f"Bandstand: {info.runtime} {info.precision}",
                times.seconds[ours],
                times.ratio(theirs, ours),
                model.gigaflop / peak,
                float(moved),
            ),
        ],
    )


def row(
    name: str, seconds: list[float], faster: float, seconds_at_peak: float, moved: float
) -> tuple[str | float, ...]:
    """Return one row of a model's table."""
    fastest = min(seconds)
    return name, statistics.median(seconds), fastest, faster, seconds_at_peak / fastest, moved


if __name__ == "__main__":
    sys.exit(main())
