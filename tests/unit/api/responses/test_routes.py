"""Responses over a real socket, kept and had again."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import httpx2
import pytest
import trio
from openai.types.responses import ResponseItemList

from meshnode.api.responses.routes import RESPONSE, RESPONSE_COUNT
from meshnode.config import ApiSettings
from meshnode.domain import Kind
from meshnode.errors import ContextLengthExceeded
from meshnode.events import Counted, Failed, Finished, Started, TextDelta, Usage
from meshnode.gateway.job import NoJobs
from meshnode.gateway.keys import KeyRing, new_key
from tests.kit.api import CHAT, Scripted, Step, endless, read_until, running_api, spoken, sse_data
from tests.kit.response_events import checked

HI: dict[str, Any] = {"model": "tiny", "input": "hi"}
LATER: dict[str, Any] = {**HI, "background": True}
FOREVER: list[Step] = [Started(5), TextDelta("a"), TextDelta("b"), trio.sleep_forever]
FAILS: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]


async def over(client: httpx2.AsyncClient, id_: str) -> dict[str, Any]:
    """The response once it is over; its stream ends then."""
    answer = await client.get(f"/v1/responses/{id_}?stream=true")
    return told(answer)[-1]["response"]  # type: ignore[no-any-return]


def told(answer: httpx2.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    events = [json.loads(data) for data in sse_data(answer.text)]
    assert [event["type"] for event in events] == names
    return events


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_is_had_again_as_it_was(streamed: bool) -> None:
    async with running_api(Scripted(spoken("Hel", "lo"))) as api, api.client() as client:
        answer = await client.post("/v1/responses", json={**HI, "stream": streamed})
        first = checked(told(answer)) if streamed else answer.json()
        again = await client.get(f"/v1/responses/{first['id']}")
        items = (await client.get(f"/v1/responses/{first['id']}/input_items")).json()
    assert again.json() == first
    assert first["output"][0]["content"][0]["text"] == "Hello"
    assert (first["status"], first["store"]) == ("completed", True)
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "hi"}]


async def test_what_is_not_to_be_kept_is_not() -> None:
    async with running_api() as api, api.client() as client:
        first = (await client.post("/v1/responses", json={**HI, "store": False})).json()
        again = await client.get(f"/v1/responses/{first['id']}")
    assert first["store"] is False
    assert (again.status_code, again.json()["error"]["param"]) == (404, "response_id")


async def test_where_keeping_is_off_nothing_is_kept_and_all_else_works() -> None:
    async with running_api(jobs=NoJobs()) as api, api.client() as client:
        first = (await client.post("/v1/responses", json=HI)).json()
        refused = [
            await client.post("/v1/responses", json={**HI, **fields})
            for fields in ({"store": True}, {"background": True}, {"previous_response_id": first["id"]})
        ]
        again = await client.get(f"/v1/responses/{first['id']}")
    assert (first["status"], first["store"]) == ("completed", False)
    assert [(one.status_code, one.json()["error"]["param"]) for one in refused] == [
        (400, "store"),
        (400, "background"),
        (400, "previous_response_id"),
    ]
    assert again.status_code == 404


async def test_a_deleted_response_is_gone() -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=HI)).json()["id"]
        deleted = await client.delete(f"/v1/responses/{id_}")
        again = await client.delete(f"/v1/responses/{id_}")
    assert deleted.json() == {"id": id_, "object": "response", "deleted": True}
    assert again.status_code == 404


async def test_a_conversation_goes_on() -> None:
    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as api, api.client() as client:
        first = (await client.post("/v1/responses", json={**HI, "instructions": "Be kind."})).json()
        second = await client.post("/v1/responses", json={**HI, "previous_response_id": first["id"]})
        roles = [message.role.value for message in api.scripted.requests[1].messages]
    assert second.json()["previous_response_id"] == first["id"]
    assert roles == ["user", "assistant", "user"]


@pytest.mark.parametrize(("fields", "remembered"), [({"store": True}, True), ({}, False)])
async def test_a_session_goes_on_where_that_is_asked_for(fields: dict[str, Any], remembered: bool) -> None:
    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as api, api.client() as client:
        ask = {**HI, "session_id": "s1", **fields}
        await client.post("/v1/responses", json={**ask, "instructions": "Be kind."})
        second = await client.post("/v1/responses", json={**ask, "input": "and?", "instructions": "Be brief."})
        third = await client.post("/v1/responses", json={**HI, "previous_response_id": second.json()["id"]})
        roles = [[message.role.value for message in request.messages] for request in api.scripted.requests]
    assert third.status_code == 200
    before = ["user", "assistant"] if remembered else []
    assert roles[1] == ["system", *before, "user"]
    assert roles[2] == [*before, "user", "assistant", "user"]


async def test_one_in_the_background_is_answered_though_nobody_waits() -> None:
    async with running_api(Scripted(spoken("Hel", "lo"))) as api, api.client() as client:
        answer = await client.post("/v1/responses", json=LATER)
        final = await over(client, answer.json()["id"])
        again = (await client.get(f"/v1/responses/{final['id']}")).json()
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (200, "queued", [])
    assert final["status"] == again["status"] == "completed"
    assert final["output"] == again["output"]
    assert again["completed_at"] is not None


async def test_its_stream_can_be_taken_up_again_behind_any_event() -> None:
    async with running_api(Scripted(spoken("Hel", "lo ", "world"))) as api, api.client() as client:
        first = told(await client.post("/v1/responses", json={**LATER, "stream": True}))
        path = f"/v1/responses/{first[0]['response']['id']}?stream=true"
        again = [told(await client.get(f"{path}&starting_after={number}")) for number in range(len(first) - 1)]
        whole = told(await client.get(path))
    checked(first, background=True)
    checked(whole, background=True)
    for number, rest in enumerate(again):
        seen = [(event["type"], event["sequence_number"], event.get("delta")) for event in first[number + 1 :]]
        assert [(event["type"], event["sequence_number"], event.get("delta")) for event in rest] == seen


async def test_its_id_is_told_before_it_begins() -> None:
    wait = trio.Event()
    steps: list[Step] = [wait.wait, *spoken("Hello")]
    async with running_api(Scripted(steps)) as api, api.raw() as raw:
        body = json.dumps({**LATER, "stream": True}).encode()
        head = api.head("POST", "/v1/responses", "Content-Type: application/json", f"Content-Length: {len(body)}")
        await raw.send_all(head + body)
        opened = await read_until(raw, b"response.queued")
        wait.set()
        await read_until(raw, b"response.completed")
    assert b'"status":"queued"' in opened


async def test_one_under_way_is_cancelled_and_stays_so() -> None:
    async with running_api(Scripted(FOREVER)) as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=LATER)).json()["id"]
        await api.scripted.entered.wait()
        answers = [(await client.post(f"/v1/responses/{id_}/cancel")).json() for _ in range(2)]
        final = await over(client, id_)
        assert api.scripted.inside == 0
    assert [answer["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert answers[0] == answers[1]
    assert final["status"] == "cancelled"


async def test_only_one_in_the_background_can_be_cancelled_or_streamed_again() -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=HI)).json()["id"]
        refused = [
            await client.post(f"/v1/responses/{id_}/cancel"),
            await client.get(f"/v1/responses/{id_}?stream=true"),
        ]
    assert [(one.status_code, one.json()["error"]["param"]) for one in refused] == [
        (400, "response_id"),
        (400, "stream"),
    ]


async def test_one_that_fails_says_why_whenever_it_is_asked() -> None:
    async with running_api(Scripted(FAILS), entropy=os.urandom) as api, api.client() as client:
        streamed = checked(told(await client.post("/v1/responses", json={**HI, "stream": True})))
        kept = (await client.get(f"/v1/responses/{streamed['id']}")).json()
        whole = await client.post("/v1/responses", json=HI)
        later = (await client.post("/v1/responses", json=LATER)).json()
        failed = await over(client, later["id"])
    assert (streamed["status"], streamed["error"]["type"]) == ("failed", "worker_died")
    assert kept == streamed
    assert whole.status_code == 502
    assert (failed["status"], failed["output"][0]["status"]) == ("failed", "incomplete")


async def test_an_error_before_the_stream_has_its_own_status() -> None:
    refusal = ContextLengthExceeded("the prompt has 9000 tokens, the context 8192.", param="input")
    async with running_api(Scripted([], refusal=refusal)) as api, api.client() as client:
        answer = await client.post("/v1/responses", json={**HI, "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?order=up", "order"),
        ("?after=msg_9", "after"),
        ("?include[]=x", "include"),
        ("?befor=x", "befor"),
    ],
)
async def test_wrong_queries_are_named(query: str, param: str) -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=HI)).json()["id"]
        answer = await client.get(f"/v1/responses/{id_}/input_items{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=1", "stream"),
        ("?stream=true&starting_after=-1", "starting_after"),
        ("?starting_after=1", "starting_after"),
        ("?include=x", "include"),
        ("?x=1", "x"),
    ],
)
async def test_wrong_ways_to_get_one_are_named(query: str, param: str) -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=LATER)).json()["id"]
        answer = await client.get(f"/v1/responses/{id_}{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_an_empty_page_of_items_is_one_too() -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/responses", json=HI)).json()["id"]
        (item,) = (await client.get(f"/v1/responses/{id_}/input_items")).json()["data"]
        answer = await client.get(f"/v1/responses/{id_}/input_items?after={item['id']}")
    assert ResponseItemList.model_validate(answer.json(), strict=True).data == []


async def test_counting_a_prompt() -> None:
    async with running_api(Scripted([Started(7), Counted(7), Finished(Usage(7))])) as api, api.client() as client:
        answer = await client.post("/v1/responses/input_tokens", json=HI)
        kind = api.scripted.requests[0].kind
    assert answer.json() == {"object": "response.input_tokens", "input_tokens": 7}
    assert kind is Kind.COUNT


async def test_what_another_dialect_keeps_is_no_response() -> None:
    async with running_api() as api, api.client() as client:
        id_ = (await client.post("/v1/chat/completions", json={**CHAT, "store": True})).json()["id"]
        answer = await client.get(f"/v1/responses/{id_}")
    assert answer.status_code == 404


async def test_nobody_sees_anothers_responses() -> None:
    keys = {name: new_key(name.encode() * 16) for name in ("an", "bo")}
    ring = KeyRing(tuple(hashlib.sha256(key.encode()).digest() for key in keys.values()))
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with running_api(keys=ring, settings=settings) as api, api.client() as ann, api.client() as bob:
        ann.headers["Authorization"] = f"Bearer {keys['an']}"
        bob.headers["Authorization"] = f"Bearer {keys['bo']}"
        id_ = (await ann.post("/v1/responses", json=LATER)).json()["id"]
        path = f"/v1/responses/{id_}"
        others = [
            await bob.get(path),
            await bob.get(f"{path}?stream=true"),
            await bob.get(f"{path}/input_items"),
            await bob.post(f"{path}/cancel"),
            await bob.delete(path),
        ]
        on = await bob.post("/v1/responses", json={**HI, "previous_response_id": id_})
        nothing = await bob.post("/v1/responses", json={**HI, "previous_response_id": "resp_none"})
        mine = await over(ann, id_)
    assert [answer.status_code for answer in others] == [404] * 5
    assert mine["status"] == "completed"
    assert (on.status_code, on.json()) == (nothing.status_code, nothing.json())
    assert on.json()["error"]["param"] == "previous_response_id"


async def test_a_client_that_leaves_a_stream_stops_it_but_not_one_in_the_background() -> None:
    async with running_api(Scripted(endless(), forever=True)) as api:
        async with api.client() as client, client.stream("POST", "/v1/responses", json={**HI, "stream": True}):
            await api.scripted.entered.wait()
        await api.scripted.left.wait()


def test_both_dialects_speak_alike() -> None:
    assert RESPONSE.voice == RESPONSE_COUNT.voice
    assert RESPONSE.name != RESPONSE_COUNT.name
