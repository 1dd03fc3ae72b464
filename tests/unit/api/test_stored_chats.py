"""Stored chat completions, had again with the official package, every answer validated against its own types."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx2
import openai
import pytest
import trio
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from meshnode.domain import OWNER
from tests.kit.api import CARD, CHAT, Api, Scripted, running_api, spoken
from tests.kit.jobs import a_job

T = TypeVar("T")
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as running:
        yield running


async def with_sdk(api: Api, call: Callable[[OpenAI], T]) -> T:
    def run() -> T:
        with OpenAI(
            base_url=f"{api.url}/v1", api_key="unused", max_retries=0, timeout=30, _strict_response_validation=True
        ) as client:
            return call(client)

    return await trio.to_thread.run_sync(run)


async def stored(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/chat/completions", json={**CHAT, "store": True, **fields})
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


async def test_the_official_package_lists_gets_annotates_and_deletes(api: Api) -> None:
    def use(sdk: OpenAI) -> None:
        made = [
            sdk.chat.completions.create(model="tiny", messages=HI, store=True, metadata={"n": str(number)})
            for number in range(3)
        ]
        chats = sdk.chat.completions
        assert [chat.id for chat in chats.list(limit=2)] == [chat.id for chat in made], "pages and all"
        assert [chat.id for chat in chats.list(metadata={"n": "1"})] == [made[1].id]
        assert list(chats.list(model="other")) == []
        assert chats.retrieve(made[0].id).choices == made[0].choices
        assert chats.update(made[0].id, metadata={"n": "9"}).id == made[0].id
        assert [chat.id for chat in chats.list(metadata={"n": "9"})] == [made[0].id]
        assert chats.delete(made[0].id).deleted
        with pytest.raises(openai.NotFoundError):
            chats.retrieve(made[0].id)

    await with_sdk(api, use)


async def test_an_answer_is_the_same_with_its_metadata_beside(api: Api) -> None:
    async with api.client() as client:
        made = await stored(client, metadata={"a": "b"})
        again = (await client.get(f"/v1/chat/completions/{made['id']}")).json()
        by_model = (await client.get("/v1/chat/completions", params={"model": CARD.id, "order": "desc"})).json()
    assert again == made | {"metadata": {"a": "b"}}
    assert by_model["data"] == [again]


async def test_what_was_answered_can_be_read_again(api: Api) -> None:
    said = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    async with api.client() as client:
        made = await stored(client, messages=said)
        path = f"/v1/chat/completions/{made['id']}/messages"
        first = (await client.get(f"{path}?limit=1")).json()
        rest = (await client.get(f"{path}?after={first['last_id']}")).json()
        newest = (await client.get(f"{path}?limit=1&order=desc")).json()
        odd = await client.get(f"{path}?after=x")
    assert first["data"] == [{"id": f"{made['id']}-0", "role": "system", "content": "be brief"}]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert rest["data"] == newest["data"] == [{"id": f"{made['id']}-1", "role": "user", "content": "hi"}]
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "after")


async def test_what_is_no_stored_chat_is_not_there(api: Api) -> None:
    async with api.client() as client:
        told = (await client.post("/v1/completions", json={"prompt": "x", "store": True})).json()
        await api.context.jobs.submit(a_job("chatcmpl-queued"))
        for id_ in (told["id"], "chatcmpl-none"):
            for method, end in (("GET", ""), ("DELETE", ""), ("GET", "/messages")):
                assert (await client.request(method, f"/v1/chat/completions/{id_}{end}")).status_code == 404
        assert (await api.context.jobs.job(OWNER, told["id"])).id == told["id"]


@pytest.mark.parametrize("metadata", ["x", {"a": 1}, {"a": "b" * 513}, {str(number): "" for number in range(17)}])
async def test_odd_metadata_is_refused_by_name(api: Api, metadata: object) -> None:
    async with api.client() as client:
        made = await stored(client)
        answer = await client.post(f"/v1/chat/completions/{made['id']}", json={"metadata": metadata})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("metadata")
