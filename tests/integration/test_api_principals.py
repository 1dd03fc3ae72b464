"""Two holders of keys at one node: neither sees, changes, continues or ends anything of the other's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2

from meshnode.api.app import create_app
from meshnode.config import ApiSettings
from meshnode.gateway.keys import hash_of, new_key, parse_keys
from tests.kit.api import CHAT, Api, Scripted, spoken
from tests.kit.batches import a_line, batch_api, begun, in_status, jsonl, uploaded

ALICE, BOB = (new_key(bytes([number]) * 32) for number in (1, 2))
LISTS: Final = ("/v1/jobs", "/v1/chat/completions", "/v1/files", "/v1/batches")
BEGUN: Final = {
    "/v1/chat/completions": {**CHAT, "async_mode": True},
    "/v1/completions": {"prompt": "hi", "async_mode": True},
    "/v1/messages": {**CHAT, "max_tokens": 9, "async_mode": True},
    "/v1/responses": {"input": "hi", "background": True},
}
"""What begins a job in the background, by dialect."""


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Api, httpx2.AsyncClient, httpx2.AsyncClient]]:
    """The API and a client of each, of whom only Alice has something kept."""
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    ring = parse_keys(f"{hash_of(ALICE)}\n{hash_of(BOB)}")
    async with (
        batch_api(Scripted(spoken("Hello")), settings=settings, keys=ring) as api,
        api.client() as alice,
        api.client() as bob,
    ):
        alice.headers["authorization"], bob.headers["x-api-key"] = f"Bearer {ALICE}", BOB
        yield api, alice, bob


async def kept_by(client: httpx2.AsyncClient) -> dict[str, str]:
    """Ids of one thing of each kind."""
    chat = (await client.post("/v1/chat/completions", json={**CHAT, "store": True, "session_id": "s"})).json()
    response = (await client.post("/v1/responses", json={"input": "hi"})).json()
    batch = await begun(client, jsonl(a_line("one"), b"no line"))
    ended = await in_status(client, batch["id"], "completed")
    ids = {
        "chat": chat["id"],
        "response": response["id"],
        "item": response["output"][0]["id"],
        "file": await uploaded(client, jsonl(a_line("two"))),
        "batch": batch["id"],
        "answers": ended["output_file_id"],
        "faults": ended["error_file_id"],
        "session": "s",
    }
    for path, body in BEGUN.items():
        answer = (await client.post(path, json=body)).raise_for_status()
        ids[path] = answer.json()["id"]
    return ids


def ways() -> list[tuple[str, str]]:
    """Every method and path of the API that leads to something by its id, ``{}`` in the place of that."""
    found = []
    for rule in _rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            found.append((method, rule.rule.replace("<path:id_>", "{}").replace("<id_>", "{}")))
    return sorted(found)


_RULES: list[Any] = []


def _rules() -> list[Any]:
    return [rule for rule in _RULES if "id_" in rule.arguments and rule.rule.startswith("/v1/")]


async def shelf(client: httpx2.AsyncClient, ids: dict[str, str]) -> dict[str, Any]:
    """All that a client can read of these ids, and all its lists."""
    found: dict[str, Any] = {}
    for path in [*LISTS, *(path.format(id_) for method, path in ways() if method == "GET" for id_ in ids.values())]:
        answer = await client.get(path)
        found[path] = (answer.status_code, answer.text if path.endswith("/content") else answer.json())
    return found


async def test_what_is_somebody_elses_is_not_there_whatever_is_asked_of_it() -> None:
    async with two() as (api, alice, bob):
        _RULES[:] = create_app(api.context).url_map.iter_rules()
        ids = await kept_by(alice)
        for id_ in (id_ for key, id_ in ids.items() if key.startswith("/v1/")):
            while (await alice.get(f"/v1/jobs/{id_}")).json()["status"] != "completed":
                pass
        before = await shelf(alice, ids)
        assert sum(status == 200 for status, _ in before.values()) >= len(LISTS) + len(ids)
        assert len(ways()) > 12
        for method, path in ways():
            for id_ in ids.values():
                body = b'{"metadata": {"mine": "now"}}' if method == "POST" else None
                answer = await bob.request(
                    method, path.format(id_), content=body, headers={"content-type": "application/json"}
                )
                assert answer.status_code == 404, (method, path, id_, answer.text)
        for path in LISTS:
            assert (await bob.get(path)).json()["data"] == []
            for id_ in ids.values():
                found = await bob.get(path, params={"after": id_})
                assert found.status_code in (400, 404), (path, found.text)
        assert await shelf(alice, ids) == before


async def test_nobody_goes_on_from_what_is_somebody_elses() -> None:
    async with two() as (api, alice, bob):
        ids = await kept_by(alice)
        asked = len(api.scripted.requests)
        refusals = [
            ("/v1/responses", {"input": "x", "previous_response_id": ids["response"]}),
            ("/v1/responses", {"input": "x", "previous_response_id": ids["/v1/responses"]}),
            ("/v1/responses", {"input": [{"type": "item_reference", "id": ids["item"]}]}),
            ("/v1/responses/input_tokens", {"input": "x", "previous_response_id": ids["response"]}),
            ("/v1/batches", begin(ids["file"])),
            ("/v1/batches", begin(ids["answers"])),
        ]
        for path, body in refusals:
            answer = await bob.post(path, json=body)
            assert answer.status_code in (400, 404), (path, answer.text)
        assert len(api.scripted.requests) == asked
        await bob.post("/v1/chat/completions", json={**CHAT, "store": True, "session_id": "s"})
        assert len(api.scripted.requests[-1].messages) == 1
        line = {"input": "x", "previous_response_id": ids["response"]}
        batch = await begun(
            bob,
            jsonl({"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": line}),
            endpoint="/v1/responses",
        )
        assert (await in_status(bob, batch["id"], "completed", "failed"))["status"] == "failed"


def begin(file: str) -> dict[str, str]:
    """A batch of that file."""
    return {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}


async def test_who_has_no_key_or_a_wrong_one_gets_nothing() -> None:
    async with two() as (api, alice, _), api.client() as nobody:
        _RULES[:] = create_app(api.context).url_map.iter_rules()
        ids = await kept_by(alice)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": BOB[:-1]}):
            for method, path in [*ways(), *(("GET", path) for path in LISTS)]:
                answer = await nobody.request(
                    method, path.format(ids["chat"]), headers={"content-type": "application/json"} | headers
                )
                assert answer.status_code == 401, (method, path)
