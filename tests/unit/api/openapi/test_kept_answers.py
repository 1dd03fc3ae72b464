"""Real jobs, files and batches against their description."""

from __future__ import annotations

from tests.kit.api import ADMIN_TOKEN, CHAT, Scripted, running_api, spoken
from tests.kit.batches import a_line, batch_api, begun, in_status, jsonl
from tests.kit.described import check


async def test_jobs() -> None:
    path = "/v1/jobs/{id_}"
    async with running_api() as api, api.client() as client:
        begun_ = await client.post("/v1/chat/completions", json=CHAT | {"async_mode": True})
        check("/v1/chat/completions", "post", begun_.json(), status=202)
        there = f"/v1/jobs/{begun_.json()['id']}"
        check(path, "get", (await client.get(there)).json())
        check("/v1/jobs", "get", (await client.get("/v1/jobs")).json())
        check(f"{path}/cancel", "post", (await client.post(f"{there}/cancel", json={})).json())
        check(path, "delete", (await client.delete(there)).json())
        check(path, "get", (await client.get(there)).json(), status=404)


async def test_stored_chats() -> None:
    path = "/v1/chat/completions/{id_}"
    async with running_api() as api, api.client() as client:
        asked = CHAT | {"store": True, "metadata": {"a": "b"}}
        there = f"/v1/chat/completions/{(await client.post('/v1/chat/completions', json=asked)).json()['id']}"
        check(path, "get", (await client.get(there)).json())
        check("/v1/chat/completions", "get", (await client.get("/v1/chat/completions")).json())
        check(path, "post", (await client.post(there, json={"metadata": {}})).json())
        check(f"{path}/messages", "get", (await client.get(f"{there}/messages")).json())
        check(path, "delete", (await client.delete(there)).json())


async def test_history() -> None:
    admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with running_api() as api, api.client() as client:
        await client.post("/v1/chat/completions", json=CHAT | {"store": True})
        check("/api/history", "get", (await client.get("/api/history", headers=admin)).json())
        check("/api/history", "delete", (await client.delete("/api/history", headers=admin)).json())


async def test_stored_responses() -> None:
    path = "/v1/responses/{id_}"
    async with running_api() as api, api.client() as client:
        kept = (await client.post("/v1/responses", json={"input": "hi", "store": True})).json()
        there = f"/v1/responses/{kept['id']}"
        check(path, "get", (await client.get(there)).json())
        check(f"{path}/input_items", "get", (await client.get(f"{there}/input_items")).json())
        check(f"{path}/cancel", "post", (await client.post(f"{there}/cancel", json={})).json(), status=400)
        check(path, "delete", (await client.delete(there)).json())


async def test_sessions() -> None:
    async with running_api() as api, api.client() as client:
        await client.post("/v1/chat/completions", json=CHAT | {"session_id": "mine", "store": True})
        shown = await client.get("/v1/sessions/mine")
        path = "/v1/sessions/{id_}"
        check(path, "get", shown.json(), status=shown.status_code)
        check(path, "delete", (await client.delete("/v1/sessions/mine")).json(), status=shown.status_code)


async def test_files_and_batches() -> None:
    async with batch_api(Scripted(spoken("Hello"))) as api, api.client() as client:
        batch = await begun(client, jsonl(a_line("a"), b"no JSON"))
        check("/v1/batches", "post", batch)
        batch = await in_status(client, batch["id"], "completed")
        check("/v1/batches/{id_}", "get", batch)
        check("/v1/batches", "get", (await client.get("/v1/batches")).json())
        check("/v1/files", "get", (await client.get("/v1/files")).json())
        there = f"/v1/files/{batch['input_file_id']}"
        check("/v1/files/{id_}", "get", (await client.get(there)).json())
        check("/v1/files/{id_}", "delete", (await client.delete(there)).json())
