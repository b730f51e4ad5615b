"""A generic mel CNN gives the same outputs in its framework and as a graph, in every form.

TensorFlow stays in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bandstand.frontends.parameters import LogMelParameters
from bandstand.models.card import Card
from bandstand.models.repository import ModelRepository
from bandstand.models.source import SourceCache
from bandstand_exporters.example_windows import example_windows
from bandstand_exporters.export import Exported, export
from bandstand_exporters.librosa_front_end import librosa_log_mel
from bandstand_exporters.mel_cnn import open_source
from harness.cards import get_card
from harness.cnn_checkpoints import layers_of, mel_cnn, write_description, write_mel_cnn
from harness.transformers_checkpoints import (
    GENRES,
    SMALL_WAVES,
    local,
    seconds_of,
    write_wav2vec2,
)

NAME = "genre_cnn"
SECONDS = 3.0
CARD = seconds_of(get_card(NAME), SECONDS)
BANDS, FRAMES = 128, 130


@dataclass
class Export:
    """A checkpoint under its card, installed."""

    card: Card
    repository: ModelRepository
    exported: Exported

    @property
    def labels(self) -> tuple[str, ...]:
        return self.repository.latest(self.card.name).card().labels


def with_files(card: Card, folder: Path) -> Card:
    """Return the card with that folder, whatever is in it, for its source."""
    files = tuple(sorted(path.name for path in folder.iterdir()))
    source = card.source.model_copy(update={"files": files})
    return local(card.model_copy(update={"source": source}), folder)


def standardized(card: Card) -> Card:
    """Return the card for what hears samples of zero mean and unit variance."""
    window = card.window.model_dump() | {"sample_rate": 16000}
    changes = {"front_end": {"kind": "standardize"}, "window": window}
    changed = Card.model_validate(card.model_dump() | changes)
    return seconds_of(changed, 1.0)


FORMS: dict[str, Callable[[Path], tuple[Card, Path]]] = {
    "safetensors": lambda folder: (CARD, write_mel_cnn(folder)),
    "a training loop's": lambda folder: (CARD, write_mel_cnn(folder, safe=False)),
    "transformers": lambda folder: (
        standardized(CARD),
        write_wav2vec2(folder, **SMALL_WAVES),
    ),
}


@pytest.fixture(scope="module")
def export_of(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    made: dict[str, Export] = {}

    def get(form: str) -> Export:
        if form not in made:
            folder = tmp_path_factory.mktemp("mel_cnn")
            card, checkpoint = FORMS[form](folder / "checkpoint")
            card = with_files(card, checkpoint)
            repository = ModelRepository(folder / "models")
            exported = export(card, repository, SourceCache(folder / "cache"))
            made[form] = Export(card, repository, exported)
        return made[form]

    return get


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_answers_as_its_source_does(
    export_of: Callable[[str], Export], form: str
) -> None:
    proof = export_of(form).exported.report.proof
    assert proof.batch_sizes == (1, 3, 8)
    assert proof.source_difference["logits"].relative < 1e-4
    assert proof.batch_difference["logits"].relative < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_checkpoints(export_of: Callable[[str], Export], form: str) -> None:
    made = export_of(form)
    assert made.card.labels == ()
    assert made.labels == GENRES


def test_the_list_of_layers_makes_the_network_that_was_saved(
    data_dir: Path, tmp_path: Path
) -> None:
    network = mel_cnn((8, 12))
    folder = write_mel_cnn(tmp_path / "checkpoint", network)
    write_description(folder, layers=layers_of(2))
    inputs = example_windows(CARD, per_recording=1).inputs
    (samples,) = inputs.values()
    with torch.inference_mode():
        frames = librosa_log_mel(samples, LogMelParameters.from_card(CARD))
        wanted = network(torch.from_numpy(frames)).numpy()
    found = open_source(CARD, folder).run(inputs)["logits"]
    assert np.ptp(wanted, axis=0).max() > 1  # clips differ, so a wrong layer would be seen
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_rows_that_are_frames_are_another_network(data_dir: Path, tmp_path: Path) -> None:
    folder = write_mel_cnn(tmp_path / "checkpoint", mel_cnn((8, 12)))
    inputs = example_windows(CARD, per_recording=1).inputs
    answers = []
    for rows in ("bands", "frames"):
        write_description(folder, layers=layers_of(2), rows=rows)
        answers.append(open_source(CARD, folder).run(inputs)["logits"])
    assert np.abs(answers[0] - answers[1]).max() > 1e-2


KERAS = """
    import json, sys
    from pathlib import Path
    from bandstand.models.repository import ModelRepository
    from bandstand.models.source import SourceCache
    from bandstand_exporters.export import export
    from harness.cnn_checkpoints import write_description, write_keras_cnn
    from tests.parity.test_mel_cnn_exports import BANDS, CARD, FRAMES, with_files
    root = Path(sys.argv[1])
    reports = {}
    for name, shape in {"net.keras": (BANDS, FRAMES, 1), "net.h5": (FRAMES, BANDS, 1)}.items():
        folder = write_description(root / name, rows=None, layers=None)
        write_keras_cnn(folder / name, shape)
        card, repository = with_files(CARD, folder), ModelRepository(root / "models")
        proof = export(card, repository, SourceCache(root / "cache")).report.proof
        labels = repository.latest(card.name).card().labels
        reports[name] = [proof.source_difference["logits"].relative, labels]
    print(json.dumps(reports))
"""


@pytest.mark.release
def test_keras_files_are_exported_as_well(data_dir: Path, tmp_path: Path) -> None:
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed: pip install 'bandstand[keras]'")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KERAS), tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    reports: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert reports.keys() == {"net.keras", "net.h5"}
    for apart, labels in reports.values():
        assert apart < 1e-4
        assert tuple(labels) == GENRES
