"""The API over the real dispatcher, pool and scheduler, with the deterministic backend: one process, no model file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from meshnode.engine.pool import PoolLimits, open_pool
from meshnode.mesh.local import LocalDispatcher
from meshnode.observe import Metrics
from tests.kit.api import CARD, Api, MemoryLibrary, read_until, running_api, sse_data
from tests.kit.engines import Stable, constant_entropy

ENDLESS = {"prompt": "on and on", "ignore_eos": True, "max_tokens": 100_000, "temperature": 0}


@asynccontextmanager
async def api_over_an_engine(stable: Stable | None = None) -> AsyncIterator[Api]:
    """The API as the node builds it, but for the model."""
    library, metrics = MemoryLibrary(CARD), Metrics()
    engines = stable or Stable(load_s=0.01, step_s=0.001)
    async with open_pool(engines.open, metrics=metrics, entropy=constant_entropy, limits=PoolLimits()) as pool:
        dispatcher = LocalDispatcher(library, pool, metrics, node="12D3KooWNode")
        async with running_api(dispatcher, library=library, pool=pool, metrics=metrics) as api:
            yield api


async def running(api: Api) -> int:
    """Sequences the engine computes now, as status shows."""
    async with api.client() as client:
        models = (await client.get("/api/status")).json()["models"]
    return sum(model["running"] + model["waiting"] for model in models)


async def until_idle(api: Api) -> None:
    """Wait until the engine computes nothing."""
    with trio.fail_after(20):
        while await running(api):
            await trio.lowlevel.checkpoint()


async def test_chat_streams_the_same_text_that_one_shot_gives() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "seed": 7, "max_tokens": 24, "ignore_eos": True}
    async with api_over_an_engine() as api, api.client() as client:
        whole = (await client.post("/v1/chat/completions", json=body)).json()
        streamed = await client.post("/v1/chat/completions", json={**body, "stream": True})
    chunks = [json.loads(data) for data in sse_data(streamed.text) if data != "[DONE]"]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert text
    assert whole["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 24


async def test_a_prompt_too_long_is_400_with_both_numbers_streamed_or_not() -> None:
    body = {"prompt": "x" * 20_000, "max_tokens": 5}
    async with api_over_an_engine() as api, api.client() as client:
        for stream in (False, True):
            answer = await client.post("/v1/completions", json={**body, "stream": stream})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "context_length_exceeded"
            assert "8192" in answer.json()["error"]["message"]


async def test_an_unknown_model_is_404_with_the_nearest_name() -> None:
    async with api_over_an_engine() as api, api.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": "x", "model": "tinny"})
    assert answer.status_code == 404
    assert "tiny" in answer.json()["error"]["message"]


async def test_a_client_that_leaves_frees_its_slot_streaming_or_not() -> None:
    async with api_over_an_engine() as api, api.client() as client:
        await client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1})
        for stream in (True, False):
            body = json.dumps({**ENDLESS, "stream": stream}).encode()
            head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
            async with api.raw() as leaver:
                await leaver.send_all(api.head("POST", "/v1/completions", *head) + body)
                if stream:
                    await read_until(leaver, b"text_completion")
                with trio.fail_after(20):
                    while not await running(api):
                        await trio.lowlevel.checkpoint()
            await until_idle(api)


async def test_a_dead_engine_is_502_or_an_error_event() -> None:
    stable = Stable(load_s=0.01, step_s=0.001)
    async with api_over_an_engine(stable) as api, api.raw() as reader:
        body = json.dumps({**ENDLESS, "stream": True}).encode()
        head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
        await reader.send_all(api.head("POST", "/v1/completions", *head) + body)
        await read_until(reader, b"text_completion")
        stable.alive[CARD.id].crash("was killed")
        assert b"worker_died" in await read_until(reader, b'"error"')


async def test_a_model_that_cannot_be_loaded_is_503_with_its_reason() -> None:
    stable = Stable(load_s=0.01)
    stable.failures = ["the file is damaged."]
    async with api_over_an_engine(stable) as api, api.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": "x"})
        health = await client.get("/health")
    assert answer.status_code == 503
    assert (answer.json()["error"]["code"], answer.headers["x-should-retry"]) == ("model_failed", "false")
    assert "damaged" in answer.json()["error"]["message"]
    assert health.status_code == 503


async def test_many_at_once_are_all_served_and_counted() -> None:
    async with api_over_an_engine() as api, api.client() as client:
        statuses: list[int] = []

        async def ask(number: int) -> None:
            body = {"prompt": f"number {number}", "max_tokens": 8, "ignore_eos": True}
            statuses.append((await client.post("/v1/completions", json=body)).status_code)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ask, number)
        text = (await client.get("/metrics")).text
    assert statuses == [200] * 40
    assert f'meshnode_requests_total{{model="{CARD.id}",outcome="ok"}} 40.0' in text
    assert "meshnode_completion_tokens_total 320.0" in text
    assert "meshnode_requests_processing 0.0" in text
