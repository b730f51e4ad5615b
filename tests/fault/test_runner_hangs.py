"""A model whose runner process hangs holds its share of the places; other models answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from bandstand.models.repository import ModelRepository
from bandstand_bentos.model_runner import runner_name
from harness.recordings import tone
from harness.serving import serving
from tests.bad_manners import stopped
from tests.e2e.test_shared_runner import HEAVY, ONE, install
from tests.gauges import eventually, until_inside
from tests.triton_serving import EMBEDDED

IN_FLIGHT, QUEUED, SHARE = 4, 8, 0.5


async def test_one_hanging_model_leaves_room_for_the_others(tmp_path: Path) -> None:
    repository = ModelRepository.over_embedded(tmp_path / "models")
    install(repository, ONE)
    install(repository, HEAVY, runner="own")
    with serving(
        tmp_path / "log",
        repository=repository.root,
        runtime="onnxruntime",
        max_in_flight=IN_FLIGHT,
        max_queued=QUEUED,
        model_share=SHARE,
    ) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=90) as client:

            def ask(model: str) -> asyncio.Task[httpx.Response]:
                asked = client.post("/predict", content=tone(1.0), params={"model_name": model})
                return asyncio.create_task(asked)

            places, queue = int(IN_FLIGHT * SHARE), int(QUEUED * SHARE)
            with stopped(server.worker(runner_name(HEAVY))):
                hanging = [ask(HEAVY) for _ in range(places + queue)]
                await until_inside(client, worked_on=places, waiting=queue)
                refused = await ask(HEAVY)
                assert (refused.status_code, refused.json()["error_type"]) == (429, "overloaded")
                others = await asyncio.gather(*(ask(name) for name in (ONE, EMBEDDED, ONE)))
                assert [answer.status_code for answer in others] == [200, 200, 200]
                features = await client.post("/analyze/features", content=tone(1.0))
                assert features.status_code == 200
                assert not any(task.done() for task in hanging)
            assert {(await task).status_code for task in hanging} == {200}

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(is_ready)
