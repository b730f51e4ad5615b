"""The taggers' graphs give the outputs of their checkpoints, for the tags of the cards."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from bandstand.audio.decode import DecodeLimits, decode
from bandstand.audio.waveform import resample
from bandstand.audio.windows import cut_windows
from bandstand.errors import CheckpointError, ModelMismatchError
from bandstand.models.source import sha256_of
from bandstand.runners.onnx import OnnxRunner
from bandstand.settings import get_settings
from bandstand_exporters.fcn_tagger import FcnTagger, open_source
from harness.cards import get_card

CHECKPOINTS = {"tags_msd": "msd_fcn.pth", "tags_jamendo": "jamendo_fcn.pth"}
# Tags that mean nearly the same lie next to each other in the last layer, if the order is right.
NEIGHBOURS = {
    "tags_msd": {
        "metal": "heavy metal",
        "female vocalist": "female vocalists",
        "60s": "oldies",
        "House": "dance",
        "electronica": "electronic",
        "country": "folk",
        "rnb": "sexy",
        "chill": "chillout",
    },
    "tags_jamendo": {
        "instrument---violin": "instrument---strings",
        "genre---ambient": "genre---atmospheric",
        "genre---folk": "genre---popfolk",
        "genre---techno": "genre---trance",
        "instrument---drums": "instrument---bass",
        "genre---classical": "genre---orchestral",
        "mood/theme---happy": "mood/theme---energetic",
        "genre---rock": "instrument---electricguitar",
    },
}


@pytest.fixture(scope="module")
def open_tagger(data_dir: Path) -> Callable[[str], FcnTagger]:
    return lambda name: open_source(get_card(name), data_dir / "weights" / CHECKPOINTS[name])


def test_cards_promise_these_checkpoints(data_dir: Path) -> None:
    for name, file in CHECKPOINTS.items():
        assert get_card(name).source.sha256 == sha256_of(data_dir / "weights" / file)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_labels_stand_in_the_networks_order(
    name: str, open_tagger: Callable[[str], FcnTagger]
) -> None:
    tagger = open_tagger(name)
    # The last layer's weights, (labels, channels): similar labels have similar rows.
    weights = tagger._network.dense.weight.detach()
    directions = torch.nn.functional.normalize(weights, dim=1)
    likeness = (directions @ directions.T).fill_diagonal_(-1)
    nearest = {
        label: tagger.labels[int(row.argmax())]
        for label, row in zip(tagger.labels, likeness, strict=True)
    }
    assert {label: nearest[label] for label in NEIGHBOURS[name]} == NEIGHBOURS[name]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_graph_answers_as_the_checkpoint(
    name: str, open_tagger: Callable[[str], FcnTagger], data_dir: Path, tmp_path: Path
) -> None:
    card = get_card(name)
    tagger = open_tagger(name)
    tagger.write_onnx(tmp_path / "model.onnx")
    runner = OnnxRunner(card, tmp_path / "model.onnx", threads=2)
    content = (data_dir / "audio" / "pd_Hungarian_Dance_5_strings.ogg").read_bytes()
    waveform = decode(content, DecodeLimits.from_settings(get_settings()))
    strings = cut_windows(resample(waveform, card.window.sample_rate), card.window).batch[0]
    inputs = {"samples": np.stack([strings, np.zeros_like(strings)])}
    ours, theirs = runner.run(inputs)["logits"], tagger.run(inputs)["logits"]
    tolerance = card.tolerance
    np.testing.assert_allclose(ours, theirs, tolerance.relative, tolerance.absolute)
    scores = dict(zip(card.labels, expit(ours[0]), strict=True))
    metal, strings_like = {
        "tags_msd": ("metal", "instrumental"),
        "tags_jamendo": ("genre---metal", "genre---classical"),
    }[name]
    assert scores[strings_like] > 10 * scores[metal]


def test_a_network_behind_another_front_end_is_refused(data_dir: Path) -> None:
    card = get_card("tags_msd")
    parameters = card.front_end.parameters | {"mel_scale": "slaney"}
    other = card.model_copy(
        update={"front_end": card.front_end.model_copy(update={"parameters": parameters})}
    )
    with pytest.raises(ModelMismatchError, match="filter bank"):
        open_source(other, data_dir / "weights" / "msd_fcn.pth")


class RunsCode:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut", "code", "weights"])
def test_what_is_no_checkpoint_is_refused(
    content: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    if content == "weights":
        torch.save({"dense.weight": torch.zeros(50, 64)}, path)
    else:
        path.write_bytes(pickle.dumps(RunsCode()) if content == "code" else content)
    with pytest.raises(CheckpointError):
        open_source(get_card("tags_msd"), path)
    assert not (tmp_path / "touched").exists()
