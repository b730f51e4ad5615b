"""The private parts of BentoML and circus that `seam.py` uses have not changed.

After an upgrade, a test that fails here names what changed; read the seam's docstring for why it is
relied on. Behaviour is tested where it can be: a small service (`seam_service.py`) runs under the
real supervisor, or in this process.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import requires, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import bentoml
import httpx
import pytest
from _bentoml_impl.client import RemoteProxy
from _bentoml_impl.serde import ALL_SERDE
from bentoml._internal.configuration.containers import BentoMLContainer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from packaging.requirements import Requirement

from bandstand_bentos.preprocessor import Preprocessor
from bandstand_bentos.seam import (
    Block,
    RefusePickles,
    service_of,
    sockets_folder,
    supervised_services,
    use_tracer_provider,
)
from harness import PROJECT_ROOT
from harness.serving import START_SECONDS, STOP_SECONDS, free_port
from tests.contract.seam_service import DOOR, NO_METRICS, WORKER, Worker

CHECK_SECONDS = 0.37
SUPERVISE = """\
import sys
from pathlib import Path
from bandstand_bentos.server_folder import ServerFolder
from bandstand_bentos.supervisor_seam import Supervision, supervise
port, path, check = sys.argv[1:]
door = "tests.contract.seam_service:Door"
with ServerFolder.supervised(Path(path)) as folder:
    how = Supervision(drain_seconds=5, check_seconds=float(check), folder=folder)
    supervise(door, Path.cwd(), host="127.0.0.1", port=int(port), how=how)
"""
# In place of the arbiter's loop, what it was given is printed.
INSTEAD_OF_STARTING = """\
import json
from bentoml.serving import create_watcher
from circus.arbiter import Arbiter
def start(self, cb=None):
    facts = {
        "check_delay": self.check_delay,
        "milliseconds": self.ctrl.check_delay,
        "endpoints": [self.ctrl.endpoint, self.pubsub_endpoint],
        "respawn_by_default": create_watcher("unchanged", []).respawn,
        "watchers": {
            w.name: {"respawn": w.respawn, "kill_after": w.graceful_timeout} for w in self.watchers
        },
    }
    print("FACTS", json.dumps(facts), flush=True)
    raise SystemExit(0)
Arbiter.start = start
"""
# Every look for dead workers takes its time, and says when it begins.
SLOW_LOOKS = """\
from circus.util import tornado_sleep
from circus.watcher import Watcher
async def slowly(self):
    print("LOOKING", flush=True)
    await tornado_sleep(2.0)
Watcher.manage_processes = slowly
"""


# The pins, and the fence.


@pytest.mark.parametrize("package", ["bentoml", "httptools", "kantoku", "uvicorn"])
def test_the_pinned_version_is_the_one_tested(package: str) -> None:
    pins = [Requirement(line) for line in requires("bandstand") or []]
    pin = next(pin for pin in pins if pin.name == package)
    assert str(pin.specifier) == f"=={version(package)}", f"pin {package} exactly, and no other"
    assert f"{package}{pin.specifier}" in (PROJECT_ROOT / "constraints.txt").read_text().split()


SEAMS = {Path(f"bentos/bandstand_bentos/{name}.py") for name in ("seam", "supervisor_seam")}
INNER = ("_bentoml_impl", "_bentoml_sdk", "bentoml_cli", "circus")
PUBLIC = {"bentoml", "bentoml.exceptions", "bentoml.images"}
HTTP_SEAM = Path("bentos/bandstand_bentos/http_seam.py")
HTTP_PACKAGES = ("httptools", "uvicorn")
MAY_REACH_IN = SEAMS | {Path(__file__).relative_to(PROJECT_ROOT)}


def reaches_into(path: Path) -> Iterator[str]:
    """Give each inner module of BentoML or circus that a file imports, or names in a string."""
    for node in ast.walk(ast.parse((PROJECT_ROOT / path).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value.startswith((*INNER, "bentoml._")) else []
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            inner = node.value.id == "bentoml" and node.attr.startswith("_")
            names = [f"bentoml.{node.attr}"] if inner else []
        for name in names:
            top = name.partition(".")[0]
            if top in INNER or (top == "bentoml" and name not in PUBLIC):
                yield f"{path}: {name}"


def test_only_the_seams_reach_into_bentoml_and_circus() -> None:
    folders = [path for path in PROJECT_ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    files = {path.relative_to(PROJECT_ROOT) for folder in folders for path in folder.rglob("*.py")}
    assert files > MAY_REACH_IN
    assert [found for path in files - MAY_REACH_IN for found in reaches_into(path)] == []


def test_only_the_http_seam_speaks_http() -> None:
    """Other services and tests may run uvicorn as it is; the gateway's parts may not."""
    parts = (PROJECT_ROOT / "bentos").rglob("*.py")
    imports = re.compile(rf"^\s*(?:from|import) ({'|'.join(HTTP_PACKAGES)})\b", re.MULTILINE)
    found = {path for path in parts if imports.search(path.read_text(encoding="utf-8"))}
    assert found == {PROJECT_ROOT / HTTP_SEAM}


def test_the_fence_sees_what_the_seams_do() -> None:
    found = {line.rpartition(" ")[2] for seam in SEAMS for line in reaches_into(seam)}
    assert {"_bentoml_sdk.io_models", "bentoml_cli.cli", "bentoml._internal.utils"} <= found


# The supervisor.


def supervisor(
    script: str, port: int, folder: Path, log: Path, **environment: str
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", script, str(port), str(folder), str(CHECK_SECONDS)],
            cwd=PROJECT_ROOT,
            env={**os.environ, "BENTOML_DO_NOT_TRACK": "True", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_the_arbiter_looks_when_told_and_replaces_in_containers_too(tmp_path: Path) -> None:
    script, log = INSTEAD_OF_STARTING + SUPERVISE, tmp_path / "log"
    # There, BentoML would replace no worker.
    run = supervisor(script, free_port(), tmp_path, log, BENTOML_CONTAINERIZED="True")
    run.wait(START_SECONDS)
    output = log.read_text()
    found = [line for line in output.splitlines() if line.startswith("FACTS ")]
    assert found, f"circus' Arbiter.start is no longer what `bentoml serve` ends in:\n{output}"
    facts = json.loads(found[0].removeprefix("FACTS "))
    assert facts["check_delay"] == CHECK_SECONDS, "the arbiter is not made by our function"
    assert facts["milliseconds"] == CHECK_SECONDS * 1000, "its controller has another delay"
    respawn = {name: watcher["respawn"] for name, watcher in facts["watchers"].items()}
    assert respawn == {"service": True, f"service_{WORKER}": True}
    assert not facts["respawn_by_default"], "BentoML replaces them itself? Then we need not"
    kill_after = {name: watcher["kill_after"] for name, watcher in facts["watchers"].items()}
    assert kill_after["service"] > 5, "the gateway is killed before its drain has ended"
    assert max(kill_after.values()) < 60, "a process that hangs is never killed"
    expected = [f"ipc://{tmp_path}/{name}" for name in ("control", "events")]
    assert facts["endpoints"] == expected, "others on this host can reach the arbiter"


def test_a_signal_while_workers_are_looked_after_still_stops_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = supervisor(SLOW_LOOKS + SUPERVISE, free_port(), tmp_path, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while "LOOKING" not in log.read_text():
            assert run.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        assert run.wait(STOP_SECONDS) == 0, log.read_text()
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The small service under the real supervisor: its address, and what its processes say."""
    folder = tmp_path_factory.mktemp("seam")
    metrics, log = folder / "metrics", tmp_path_factory.mktemp("seam_log") / "log"
    port = free_port()
    process = supervisor(SUPERVISE, port, folder, log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                answer = httpx.get(f"{url}/facts", timeout=10)
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"no server:\n{log.read_text()[-4000:]}")
                time.sleep(0.2)
        assert answer.status_code == 200, f"{answer.text}\n{log.read_text()[-4000:]}"
        yield SimpleNamespace(
            url=url, metrics=metrics, supervisor=process.pid, **json.loads(answer.text)
        )
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_processes_share_metrics_in_the_folder_given(small: SimpleNamespace) -> None:
    assert small.door["metrics"] == small.worker["metrics"] == str(small.metrics)


def test_the_supervisor_names_each_process_service(small: SimpleNamespace) -> None:
    """What `drain.py` looks for among its siblings."""
    assert service_of(small.door["command"]) == DOOR, small.door["command"]
    assert service_of(small.worker["command"]) == WORKER, small.worker["command"]
    assert small.door["parent"] == small.worker["parent"] == small.supervisor


def test_every_process_knows_which_services_have_processes(small: SimpleNamespace) -> None:
    assert sorted(small.door["services"]) == sorted(small.worker["services"]) == [DOOR, WORKER]
    assert supervised_services() is None, "this process has no supervisor"


def test_the_server_handles_signals_before_a_service_starts(small: SimpleNamespace) -> None:
    """`drain.py` puts its own handler before that one, and calls it later."""
    assert small.worker["handled"], "a start-up hook finds no handler of SIGTERM to put off"


# Calls between processes.


def test_a_block_goes_through_as_it_is(small: SimpleNamespace) -> None:
    assert bytes.fromhex(small.mirrored) == bytes(reversed(range(256)))


def test_a_worker_says_where_it_listens(small: SimpleNamespace) -> None:
    """`handover.py` tells a worker on this host by it."""
    assert small.address.startswith("file://"), small.address


def test_the_workers_sockets_are_in_a_folder_of_this_server_alone(small: SimpleNamespace) -> None:
    """`orphans.py` removes it."""
    folder = Path(small.worker["sockets"])
    assert small.door["sockets"] == small.worker["sockets"]
    assert folder.name.startswith("bentoml-uds-")
    assert [path.suffix for path in folder.iterdir()] == [".sock"]
    assert sockets_folder() is None, "this process has no supervisor"


def test_a_dying_worker_loses_the_answer_with_an_error_that_is_known(
    small: SimpleNamespace,
) -> None:
    assert httpx.get(f"{small.url}/die", timeout=30).json() == "lost"
    deadline = time.monotonic() + START_SECONDS
    while True:
        answer = httpx.get(f"{small.url}/facts", timeout=START_SECONDS)
        if answer.status_code == 200:
            break
        assert time.monotonic() < deadline, "it was not replaced"
    assert answer.json()["worker"]["pid"] != small.worker["pid"]


@asynccontextmanager
async def started(service: bentoml.Service[Any]) -> AsyncIterator[Any]:
    """Run a worker's ASGI app in this process, as its own process would."""
    app = service.to_asgi(is_main=False)
    async with app.router.lifespan_context(app):
        yield app


async def test_blocks_work_out_no_schema_while_requests_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a JSON schema is worked out at every call: as slow as `bytes`")

    async with started(Worker) as app:
        proxy = RemoteProxy("http://worker", service=Worker, app=app)
        async with proxy.to_async:
            monkeypatch.setattr(Block, "model_json_schema", refuse)
            assert await proxy.to_async.call("mirror", b"\x00ab\xff") == b"\xffba\x00"


def test_apis_take_and_give_blocks() -> None:
    for name, api in Worker.apis.items():
        assert (api.input_spec, api.output_spec) == (Block, Block), name
    for method in ("from_http_request", "to_http_response"):
        theirs = inspect.signature(getattr(Block.__base__, method))
        ours = inspect.signature(getattr(Block, method))
        assert len(theirs.parameters) == len(ours.parameters), f"{method}{theirs}"


async def test_a_connection_is_kept_under_calls_in_flight() -> None:
    """`service_config` sets this; by default a session is closed after a hundred calls."""
    Preprocessor.inject_config()
    proxy = RemoteProxy("http://worker", service=Preprocessor)
    sessions = proxy.to_async._session_manager
    assert sessions.max_requests == 10**9
    assert sessions.max_age == 1e9
    first = await sessions.get_session()
    try:
        for _ in range(1000):
            assert await sessions.get_session() is first
    finally:
        await proxy.close()
    assert isinstance(first, aiohttp.ClientSession), "`LOST_ANSWERS` are errors of aiohttp"


# What stands around a service's own code.


class _Loaded:
    """Loading this pickle is noticed."""

    count = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return _notice, ()


def _notice() -> None:
    _Loaded.count += 1


class _Plain:
    @bentoml.api
    async def take(self, anything: Any) -> str:
        return "taken"


async def post_pickles(app: Any) -> list[int]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    body = pickle.dumps({"anything": _Loaded()})
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
        return [
            (await http.post("/take", content=body, headers={"Content-Type": kind})).status_code
            for kind in ALL_SERDE
        ]


async def test_no_pickle_is_loaded_under_any_media_type() -> None:
    open_service = bentoml.service(_Plain, name="seam_open", **NO_METRICS)
    async with started(open_service) as app:
        await post_pickles(app)
    assert _Loaded.count == 1, "BentoML loads no pickles any more? Then RefusePickles may go"
    guarded = bentoml.service(_Plain, name="seam_guarded", **NO_METRICS)
    guarded.add_asgi_middleware(RefusePickles)
    async with started(guarded) as app:
        assert 415 in await post_pickles(app)
    assert _Loaded.count == 1, f"a pickle was loaded; media types now: {list(ALL_SERDE)}"


OF_BENTOML = {"AccessLogMiddleware", "RunnerTrafficMetricsMiddleware"}


def middleware_of(service: bentoml.Service[Any]) -> set[str]:
    return {middleware.cls.__name__ for middleware in service.to_asgi(False).user_middleware}


def test_bentoml_neither_counts_nor_logs_our_requests() -> None:
    assert middleware_of(Preprocessor) & OF_BENTOML == set()
    assert "RefusePickles" in middleware_of(Preprocessor)
    by_default = middleware_of(bentoml.service(_Plain, name="seam_default"))
    assert by_default >= OF_BENTOML, f"they have other names now: {by_default}"


@pytest.mark.parametrize("path", ["/livez", "/metrics"])
def test_every_http_request_comes_to_our_app(small: SimpleNamespace, path: str) -> None:
    assert httpx.get(f"{small.url}{path}").json() == "ours"


@pytest.mark.parametrize("path", ["/readyz", "/healthz", "/schema.json", "/docs.json", "/mirror"])
def test_bentoml_answers_no_request_itself(small: SimpleNamespace, path: str) -> None:
    answer = httpx.get(f"{small.url}{path}")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """A provider that keeps its spans; BentoML's own settings come back afterwards."""
    before = [
        (setting, setting.get())
        for setting in (BentoMLContainer.tracer_provider, BentoMLContainer.tracing_excluded_urls)
    ]
    BentoMLContainer.tracing_excluded_urls.reset()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    for setting, value in before:
        setting.set(value)


@pytest.mark.parametrize("wanted", [True, False])
async def test_spans_of_requests_go_to_our_provider_or_nowhere(
    spans: tuple[TracerProvider, InMemorySpanExporter], wanted: bool
) -> None:
    provider, exporter = spans
    use_tracer_provider(provider, spans_of_requests=wanted)
    async with started(Worker) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
            answer = await http.post("/mirror", content=b"ab")
    assert answer.content == b"ba"
    names = [span.name for span in exporter.get_finished_spans()]
    assert any("/mirror" in name for name in names) is wanted, names
