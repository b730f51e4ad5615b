"""Triton's configs are generated from the cards, and the committed ones are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bandstand.models.card import Card
from bandstand.models.installed import CARD_FILE, MODEL_FILE
from bandstand.models.repository import ModelRepository
from bandstand.triton.audio_models import AUDIO_MODELS
from bandstand.triton.config import (
    CONFIG_FILE,
    LABEL_FILE,
    MAX_QUEUE_DELAY_US,
    audio_model_config,
    card_config,
    to_text,
    write_config,
    write_configs,
)
from bandstand_client.contract.operations import OPERATIONS
from harness import PROJECT_ROOT
from harness.cards import load_cards
from tests.triton_serving import EMBEDDED, embedded_repository

text_format = pytest.importorskip("google.protobuf.text_format")
messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")

COMMITTED = PROJECT_ROOT / "model_repository"
CARDS = load_cards()


def parse(text: str) -> Any:
    """Read a `config.pbtxt` as Triton does."""
    return text_format.Parse(text, messages.ModelConfig())


def contents(root: Path) -> dict[str, bytes]:
    """What Triton reads, by relative path; the graphs and their reports are the exporter's."""
    kept = {CONFIG_FILE, LABEL_FILE, "model.py"}
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.name in kept and path.parts[len(root.parts)] in {EMBEDDED, *AUDIO_MODELS}
    }


@pytest.mark.parametrize("name", CARDS)
def test_a_card_survives_the_text(name: str) -> None:
    for version in (None, 3):
        config = card_config(CARDS[name], version)
        assert parse(to_text(config)) == config


@pytest.mark.parametrize("name", AUDIO_MODELS)
def test_an_audio_model_survives_the_text(name: str) -> None:
    config = audio_model_config(AUDIO_MODELS[name])
    assert parse(to_text(config)) == config


@pytest.mark.parametrize("name", CARDS)
def test_a_config_says_what_its_card_says(name: str) -> None:
    card, config = CARDS[name], card_config(CARDS[name])
    assert (config.name, config.backend) == (name, "onnxruntime")
    assert config.max_batch_size == card.batch.max_size
    assert [tuple(tensor.dims) for tensor in config.input] == [t.shape for t in card.inputs]
    assert [tensor.name for tensor in config.output] == [t.name for t in card.outputs]
    assert not config.dynamic_batching.preferred_batch_size
    assert config.dynamic_batching.max_queue_delay_microseconds <= MAX_QUEUE_DELAY_US
    assert {warm.batch_size for warm in config.model_warmup} == {1, card.batch.max_size}
    for warm in config.model_warmup:
        assert {key: tuple(value.dims) for key, value in warm.inputs.items()} == {
            tensor.name: tensor.shape for tensor in card.inputs
        }
    assert config.instance_group[0].kind == config.instance_group[0].KIND_AUTO


def test_no_queue_policy_lets_requests_lie_for_half_a_second() -> None:
    configs = [card_config(card) for card in CARDS.values()]
    configs += [audio_model_config(fields) for fields in AUDIO_MODELS.values()]
    for config in configs:
        batching = config.dynamic_batching
        assert config.HasField("dynamic_batching") == (config.max_batch_size > 0), config.name
        assert not batching.HasField("default_queue_policy"), config.name
        assert not batching.priority_queue_policy, config.name


def asking(**triton: object) -> Card:
    fields = CARDS[EMBEDDED].model_dump() | {"triton": triton}
    return Card.model_validate(fields)


def test_what_a_card_asks_of_a_gpu_is_in_its_config() -> None:
    plain = card_config(asking())
    assert not plain.optimization.HasField("execution_accelerators")
    assert not plain.response_cache.enable
    engine = card_config(asking(accelerator="tensorrt", precision="fp16", response_cache=True))
    (accelerator,) = engine.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, accelerator.parameters["precision_mode"]) == ("tensorrt", "FP16")
    assert accelerator.parameters["trt_profile_max_shapes"] == "features:64x57"
    assert engine.response_cache.enable
    cuda = card_config(asking(accelerator="cuda", instances=2, resources={"gpu": 1}))
    assert cuda.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "cuda"
    assert cuda.instance_group[0].count == 2
    assert cuda.instance_group[0].rate_limiter.resources[0].name == "gpu"


def test_what_is_committed_is_what_is_generated(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path)
    write_configs(repository)
    generated = {name: text for name, text in contents(tmp_path).items() if EMBEDDED in name}
    committed = {name: text for name, text in contents(COMMITTED).items() if EMBEDDED in name}
    assert generated == committed, "run `bandstand triton --prepare-only`"


def test_every_operation_has_a_model_that_runs_it(tmp_path: Path) -> None:
    written = write_configs(embedded_repository(tmp_path))
    assert {operation.triton_model for operation in OPERATIONS} <= set(written)
    for operation in OPERATIONS:
        code = (tmp_path / operation.triton_model / "1" / "model.py").read_text(encoding="utf-8")
        assert operation.triton_model in code
        compile(code, "model.py", "exec")


def test_writing_twice_changes_no_file(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path)
    names = write_configs(repository)
    files = [tmp_path / name for name in contents(tmp_path)]
    before = [file.stat().st_mtime_ns for file in files]
    assert write_configs(repository) == names
    assert [file.stat().st_mtime_ns for file in files] == before


def test_the_pinned_version_is_the_one_served(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path)
    path = tmp_path / EMBEDDED / CONFIG_FILE
    repository.install(CARDS[EMBEDDED], {MODEL_FILE: tmp_path / EMBEDDED / "1" / MODEL_FILE})
    repository.pin(EMBEDDED, 1)
    write_config(repository, EMBEDDED)
    assert list(parse(path.read_text()).version_policy.specific.versions) == [1]
    repository.pin(EMBEDDED, None)
    write_config(repository, EMBEDDED)
    assert parse(path.read_text()).version_policy.latest.num_versions == 1


def test_a_model_that_is_removed_leaves_no_config(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path)
    write_configs(repository)
    repository.remove(EMBEDDED, 1)
    assert EMBEDDED not in write_configs(repository)
    assert not (tmp_path / EMBEDDED).exists()


def test_a_model_of_somebody_elses_keeps_its_config(tmp_path: Path) -> None:
    config = tmp_path / "my_model" / CONFIG_FILE
    config.parent.mkdir()
    config.write_text('backend: "python"')
    assert "my_model" not in write_configs(embedded_repository(tmp_path))
    assert config.read_text() == 'backend: "python"'


def test_a_broken_model_keeps_its_config_and_no_other_from_its_own(tmp_path: Path) -> None:
    repository = embedded_repository(tmp_path)
    write_configs(repository)
    before = (tmp_path / EMBEDDED / CONFIG_FILE).read_bytes()
    (tmp_path / EMBEDDED / "1" / CARD_FILE).write_text("{}")
    repository.install(CARDS["tags_msd"], {MODEL_FILE: b"x"})
    assert {EMBEDDED, "tags_msd"} <= set(write_configs(repository))
    assert (tmp_path / EMBEDDED / CONFIG_FILE).read_bytes() == before
    assert (tmp_path / "tags_msd" / CONFIG_FILE).is_file()


def test_the_root_alone_is_all_that_triton_needs(tmp_path: Path) -> None:
    names = write_configs(ModelRepository.over_embedded(tmp_path))
    alone = ModelRepository(tmp_path)
    assert alone.names() == (EMBEDDED,)
    assert alone.latest(EMBEDDED).card() == CARDS[EMBEDDED]
    generated = {name: text for name, text in contents(tmp_path).items() if EMBEDDED in name}
    assert generated == {n: text for n, text in contents(COMMITTED).items() if EMBEDDED in n}
    assert names == write_configs(alone)
    assert not (tmp_path / "genre_wav2vec2" / LABEL_FILE).exists()
