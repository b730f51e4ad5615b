"""A broken model on disk: requests for it get the reason, and all other models work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandstand.errors import BandstandError
from bandstand.local import LocalBandstand
from bandstand.models.card import Card
from bandstand.models.catalogue import Catalogue
from bandstand.models.installed import MODEL_FILE, InstalledModel
from bandstand.models.repository import ModelRepository
from bandstand.pipelines.listing import list_models
from bandstand.settings import Settings, get_settings
from bandstand_cli.app import app
from bandstand_client.errors import ServerError
from bandstand_client.http import Bandstand
from harness.cards import get_card
from harness.recordings import tone
from harness.serving import Server, serving
from tests.triton_serving import EMBEDDED, WAVEFORM_MODEL, waveform_graph

KEY = "the-administrators-key"
RECORDING = tone(2.0, 16_000)
Spoil = Callable[[InstalledModel], object]


def card_with(installed: InstalledModel, **changes: object) -> None:
    path = installed.folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


FAULTS: dict[str, tuple[Spoil, str]] = {
    "garbled_pin": (
        lambda version: (version.folder.parent / "pinned_version").write_text("newest"),
        "pinned_version does not hold a version",
    ),
    "pin_of_a_version_that_is_gone": (
        lambda version: (version.folder.parent / "pinned_version").write_text("9"),
        "has no version 9",
    ),
    "no_card": (
        lambda version: (version.folder / "card.json").unlink(),
        "no readable card.json",
    ),
    "garbled_card": (
        lambda version: (version.folder / "card.json").write_text('{"name": "spo'),
        "no readable card.json",
    ),
    "card_of_another": (lambda version: card_with(version, name="other"), "the card of 'other'"),
    "card_without_labels": (lambda version: card_with(version, labels=[]), "without labels"),
    "labels_of_another_number": (lambda version: card_with(version, labels=["one"]), "1 labels"),
    "no_graph": (lambda version: (version.folder / "model.onnx").unlink(), "no model.onnx"),
}
"""By name: what is done to a version, and what is said of it then."""

KNOWN = dict(zip(("genre_cnn", "tags_msd", "genre_ccmusic"), FAULTS, strict=False))
"""Models that a card comes with Bandstand for; the other faults happen to models of one's own."""


def own_card(name: str, seconds: float | None = None) -> Card:
    """The card of a model that samples go into, under a name that no card of Bandstand's has."""
    card = get_card(WAVEFORM_MODEL)
    changes: dict[str, object] = {"name": name}
    if seconds is not None:
        window = card.window.model_copy(update={"seconds": seconds, "hop_seconds": seconds})
        shape = (window.samples,)
        changes["window"] = window
        changes["inputs"] = (card.inputs[0].model_copy(update={"shape": shape}),)
    return card.model_copy(update=changes)


def install(repository: ModelRepository, card: Card) -> InstalledModel:
    version = repository.install(card, {MODEL_FILE: waveform_graph(card)})
    return repository.installed(card.name, version)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every fault once, beside a good model of one's own: what is said of each, by name."""
    repository = ModelRepository.over_embedded(tmp_path_factory.mktemp("broken") / "models")
    install(repository, own_card("my_genres"))
    reasons = {"root": str(repository.root)}
    names = {fault: name for name, fault in KNOWN.items()}
    for fault, (spoil, reason) in FAULTS.items():
        name = names.get(fault, fault)
        spoil(install(repository, own_card(name)))
        reasons[name] = reason
    return reasons


@pytest.fixture(scope="module")
def settings(spoilt: dict[str, str]) -> Settings:
    return Settings(repository=Path(spoilt["root"]), runtime="onnxruntime", threads_per_runner=1)


@pytest.fixture(scope="module")
def broken(spoilt: dict[str, str]) -> dict[str, str]:
    return {name: reason for name, reason in spoilt.items() if name != "root"}


def test_each_is_listed_with_its_reason_and_the_others_as_they_are(
    settings: Settings, broken: dict[str, str]
) -> None:
    listed = {m.name: m for m in list_models(Catalogue.from_settings(settings)).models}
    assert {name for name, model in listed.items() if model.status == "broken"} == set(broken)
    for name, reason in broken.items():
        assert reason in (listed[name].reason or "")
    for name in (EMBEDDED, "my_genres"):
        assert (listed[name].status, listed[name].reason) == ("installed", None)
    assert listed["tags_jamendo"].status == "not_installed"
    assert listed["genre_cnn"].task == "genre"  # what its card in the package says
    assert listed["garbled_card"].task == "unknown"


async def test_who_asks_for_one_is_told_why_and_the_others_answer(
    settings: Settings, broken: dict[str, str]
) -> None:
    async with LocalBandstand(settings) as pipelines:
        for name, reason in broken.items():
            with pytest.raises(BandstandError, match=reason):
                await pipelines.classify(RECORDING, model_name=name)
            with pytest.raises(BandstandError, match=reason):
                await pipelines.detect_instruments(RECORDING, model_name=name)
        for name in (EMBEDDED, "my_genres"):
            assert (await pipelines.classify(RECORDING, model_name=name)).method == name
        assert (await pipelines.analyze_features(RECORDING)).tempo_bpm >= 0


async def test_features_need_no_installed_model(tmp_path: Path, settings: Settings) -> None:
    pin = tmp_path / EMBEDDED / "pinned_version"
    pin.parent.mkdir()
    pin.write_text("newest")
    async with LocalBandstand(settings.model_copy(update={"repository": tmp_path})) as band:
        with pytest.raises(BandstandError, match="pinned_version"):
            await band.classify(RECORDING)
        assert "rms_mean" in (await band.analyze_features(RECORDING)).features


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BANDSTAND_REPOSITORY", str(settings.repository))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("environment")
def test_the_command_line_lists_and_shows_them(broken: dict[str, str]) -> None:
    listed = CliRunner().invoke(app, ["models", "list"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert listed.stdout.count(" broken ") == len(broken)
    for name, reason in broken.items():
        shown = CliRunner().invoke(app, ["models", "show", name, "--json"])
        assert shown.exit_code == 0
        assert reason in json.loads(shown.stdout)["reason"]


@pytest.mark.usefixtures("environment")
def test_a_pull_does_not_take_a_broken_version_for_an_installed_one(broken: dict[str, str]) -> None:
    catalogue = Catalogue.from_settings(get_settings())
    from bandstand_cli.install import _installed_already

    assert "genre_cnn" in broken
    for name in KNOWN:
        card = catalogue.installable(name)
        assert _installed_already(card, catalogue.repository) is None
    embedded = catalogue.installable(EMBEDDED)
    assert _installed_already(embedded, catalogue.repository) == 1


@pytest.fixture(scope="module")
def gateway(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("gateway") / "log",
        repository=settings.repository,
        runtime="onnxruntime",
        admin_key=KEY,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Server) -> Iterator[Bandstand]:
    with Bandstand(gateway.url, api_key=KEY) as opened:
        yield opened


def test_a_gateway_starts_beside_them_and_says_so(
    client: Bandstand, broken: dict[str, str]
) -> None:
    assert client.health().status == "ok"
    listed = {model.name: model for model in client.models().models}
    status = {name: model.status for name, model in listed.items()}
    assert {name for name, is_so in status.items() if is_so == "broken"} == set(broken)
    for name, reason in broken.items():
        assert reason in (listed[name].reason or "")
    for name in (EMBEDDED, "my_genres"):
        assert status[name] == "ready"
        assert client.classify(RECORDING, model_name=name).method == name
    with pytest.raises(ServerError, match=broken["genre_ccmusic"]) as refusal:
        client.classify(RECORDING, model_name="genre_ccmusic")
    assert refusal.value.error_type == "model_mismatch"


def test_a_model_that_no_process_knew_at_its_start_is_loaded_and_answers(
    client: Bandstand, settings: Settings
) -> None:
    repository = ModelRepository.from_settings(settings)
    install(repository, own_card("short_windows", seconds=0.5))
    assert client.load_model("short_windows").status == "ready"
    assert client.classify(RECORDING, model_name="short_windows").method == "short_windows"
    install(repository, own_card("short_windows", seconds=0.25))
    assert client.load_model("short_windows").version == 2
    assert client.classify(RECORDING, model_name="short_windows").members[0].version == 2


def test_a_load_heals_a_garbled_pin(client: Bandstand, broken: dict[str, str]) -> None:
    name = next(name for name, fault in KNOWN.items() if fault == "garbled_pin")
    with pytest.raises(ServerError, match=broken[name]):
        client.classify(RECORDING, model_name=name)
    assert client.load_model(name).status == "ready"
    assert client.classify(RECORDING, model_name=name).method == name
