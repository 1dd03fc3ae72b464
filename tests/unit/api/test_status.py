"""Health, metrics and status."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
import trio
import trio.lowlevel

from meshnode.api.status import model_state
from meshnode.engine.slot import ModelState
from meshnode.gateway.batches import AT_ONCE
from tests.kit.api import CARD, MemoryPool, Scripted, ready, running_api
from tests.kit.batches import a_line, batch_api, begun, jsonl
from tests.kit.fakemesh import CONNECTED, FAR, HEARD_OF, FakeMesh

LOADING = ModelState(id=CARD.id, state="loading", progress=0.4)
FAILED = ModelState(id=CARD.id, state="failed", reason="damaged")


@pytest.mark.parametrize(
    ("states", "status", "word"),
    [([], 200, "ok"), ([ready()], 200, "ok"), ([LOADING], 503, "loading"), ([FAILED], 503, "failed")],
)
async def test_health_says_whether_a_model_can_answer(states: list[ModelState], status: int, word: str) -> None:
    async with running_api(pool=MemoryPool(*states)) as api, api.client() as client:
        answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (status, word)


@pytest.mark.parametrize("states", [[], [LOADING], [FAILED]])
async def test_health_is_well_where_a_peer_can_answer(states: list[ModelState]) -> None:
    mesh = FakeMesh(offered=(FAR,))
    async with running_api(pool=MemoryPool(*states), mesh=mesh) as api, api.client() as client:
        answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_status_counts_the_mesh_and_names_nobody() -> None:
    mesh = FakeMesh(offered=(FAR,), met=(CONNECTED, HEARD_OF), addresses=["x"])
    async with running_api(mesh=mesh, client_only=True) as api, api.client() as client:
        shown = (await client.get("/api/status")).json()
    assert shown["mesh"] == {"joined": True, "peers": 1, "models": 1, "client_only": True}
    assert CONNECTED.peer not in str(shown)


async def test_health_says_how_far_loading_is() -> None:
    async with running_api(pool=MemoryPool(LOADING)) as api, api.client() as client:
        assert (await client.get("/health")).json()["loading"] == [{"id": CARD.id, "progress": 0.4}]


async def test_the_requests_of_batches_are_counted() -> None:
    dispatcher = Scripted([trio.sleep_forever])
    async with batch_api(dispatcher) as api, api.client() as client:
        before = (await client.get("/api/status")).json()["batches"]
        await begun(client, jsonl(*(a_line(str(number)) for number in range(9))))
        await dispatcher.entered.wait()
        while dispatcher.inside < AT_ONCE:
            await trio.lowlevel.checkpoint()
        shown = (await client.get("/api/status")).json()["batches"]
        metrics = (await client.get("/metrics")).text
    assert before == {"unfinished": 0, "lines_running": 0, "lines_waiting": 0}
    assert shown == {"unfinished": 1, "lines_running": AT_ONCE, "lines_waiting": 9 - AT_ONCE}
    assert f"meshnode_batch_lines_running {AT_ONCE}.0" in metrics
    assert f"meshnode_batch_lines_waiting {9 - AT_ONCE}.0" in metrics


async def test_metrics_are_prometheus_text() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "meshnode_requests_processing 0.0" in answer.text


async def test_status_is_what_the_contract_says_and_keeps_the_home_to_the_owner(tmp_path: Path) -> None:
    async with running_api(control_socket=tmp_path / "control.sock") as api, api.client() as client:
        shown = (await client.get("/api/status")).json()
        transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "control.sock"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as owner:
            owned = (await owner.get("/api/status")).json()
    assert {
        "version",
        "peer_id",
        "addresses",
        "api",
        "uptime_s",
        "models",
        "devices",
        "backends",
        "draining",
    } <= set(shown)
    assert "home" not in shown
    assert owned["home"] == "/home/of/node"
    assert shown["addresses"][0].endswith("/p2p/12D3KooWNode")
    assert shown["devices"][0]["name"] == "CPU"


def test_a_model_in_memory() -> None:
    shown = model_state(ready())
    assert (shown["layers"], shown["gpu_layers"], shown["devices"], shown["threads"]) == (30, 0, ["CPU"], 1)
    assert (shown["running"], shown["waiting"], shown["kv_used"], shown["kv_total"]) == (1, 2, 30, 1024)
    assert set(model_state(LOADING)) == set(shown), "one that is loading has the same fields"
