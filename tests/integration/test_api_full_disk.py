"""A disk that is full while the API keeps things: answers are given, what cannot be kept is said, no path is named."""

from __future__ import annotations

import json
import os
from sqlite3 import Connection
from typing import Any, Final

import httpx2
import pytest

from meshnode.storage.database import Database
from tests.kit.api import CHAT, Scripted, running_api, spoken, sse_data

BIG: Final = "x" * 200_000
STORED: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {**CHAT, "store": True, "user": "u"},
    "/v1/responses": {"input": "hi"},
}
"""What keeps its answer, by dialect."""
LATER: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": BIG}], "async_mode": True},
    "/v1/completions": {"prompt": BIG, "async_mode": True},
    "/v1/messages": {"messages": [{"role": "user", "content": BIG}], "max_tokens": 9, "async_mode": True},
    "/v1/responses": {"input": BIG, "background": True},
}
"""What is to be kept before it is answered, by dialect."""


async def fill(database: Database) -> None:
    """Let the database not grow any more: SQLite says the same as where the disk is full."""

    def limit(connection: Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await database.write(limit)


async def make_room(database: Database) -> None:
    """Let it grow again."""
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())


@pytest.mark.parametrize("path", STORED)
async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(path: str) -> None:
    body = STORED[path]
    async with running_api(Scripted(spoken(BIG)), entropy=os.urandom) as api, api.client() as client:
        await fill(api.database)
        whole = await client.post(path, json=body)
        assert whole.status_code == 200
        assert whole.headers["x-mesh-warning"] == "not kept: disk_full"
        assert BIG in whole.text
        streamed = await client.post(path, json={**body, "stream": True})
        assert BIG in streamed.text
        assert "disk_full" not in streamed.text
        await make_room(api.database)
        kept = (await client.post(path, json=body)).json()
        assert (await client.get(f"{path}/{kept['id']}")).json()["id"] == kept["id"]
        assert api.scripted.inside == 0


@pytest.mark.parametrize("path", LATER)
async def test_what_cannot_be_kept_is_not_taken_and_says_so_without_naming_a_place(path: str) -> None:
    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as api, api.client() as client:
        await fill(api.database)
        refused = await client.post(path, json=LATER[path])
        check_full(refused)
        assert refused.json().keys() == ({"type", "error", "request_id"} if "messages" in path else {"error"})
        assert (await client.get("/v1/jobs")).json()["data"] == []
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        await make_room(api.database)
        taken = (await client.post(path, json=LATER[path])).raise_for_status().json()
        assert (await client.get(f"/v1/jobs/{taken['id']}")).status_code == 200


async def test_a_stream_in_the_background_is_refused_before_it_begins() -> None:
    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as api, api.client() as client:
        await fill(api.database)
        check_full(await client.post("/v1/responses", json={**LATER["/v1/responses"], "stream": True}))
        streamed = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert json.loads(next(sse_data(streamed.text)))["object"] == "chat.completion.chunk"


def check_full(answer: httpx2.Response) -> None:
    """Fails unless it says that the disk is full, and nothing of where that is."""
    told: dict[str, Any] = answer.json()["error"]
    assert answer.status_code == 507, answer.text
    assert told["message"] == "this node's disk is full. Its owner can mend that."
    assert told.get("code") in (None, "disk_full")
    assert answer.headers["x-should-retry"] == "false"
