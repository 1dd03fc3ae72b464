"""``session_id`` with ``store``: only what is new is sent, and the model reads all that was said."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from meshnode.config import ApiSettings
from meshnode.domain import OWNER, TextPart
from meshnode.events import Failed, Started, TextDelta
from meshnode.gateway.keys import hash_of, parse_keys
from tests.kit.api import Api, Scripted, running_api, spoken

ALICE, BOB = "mesh_live_alice", "mesh_live_bob"


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "session_id": "s", "store": True, **fields}


def read(api: Api, number: int = -1) -> list[str]:
    """What the model was given to read."""
    messages = api.scripted.requests[number].messages
    return [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_second_request_is_read_behind_the_first_and_its_answer(path: str, streamed: bool) -> None:
    async with running_api(Scripted(spoken("Hel", "lo")), entropy=os.urandom) as api, api.client() as client:
        for text in ("hi", "more"):
            answer = await client.post(path, json=asked(text, stream=streamed, max_tokens=5))
            assert answer.status_code == 200, answer.text
        assert read(api) == ["hi", "Hello", "more"]
        told = (await client.get("/v1/sessions/s")).json()
    assert [(message["role"], message["content"]) for message in told["messages"]] == [
        ("user", "hi"), ("assistant", "Hello"), ("user", "more"), ("assistant", "Hello"),
    ]  # fmt: skip


async def test_without_store_or_without_a_session_nothing_is_remembered() -> None:
    async with running_api(entropy=os.urandom) as api, api.client() as client:
        for fields in ({"store": False}, {"session_id": None}):
            await client.post("/v1/chat/completions", json=asked("hi", **fields))
        assert (await client.get("/v1/sessions/s")).status_code == 404


async def test_the_header_names_a_session_and_the_body_goes_before_it() -> None:
    async with running_api(entropy=os.urandom) as api, api.client() as client:
        header = {"x-session-id": "of the header"}
        await client.post("/v1/chat/completions", json=asked("hi", session_id=None), headers=header)
        await client.post("/v1/chat/completions", json=asked("ho"), headers=header)
        assert [
            len((await client.get(f"/v1/sessions/{name}")).json()["messages"]) for name in ("of the header", "s")
        ] == [2, 2]


async def test_an_answer_in_the_background_is_remembered_too() -> None:
    async with running_api(entropy=os.urandom) as api, api.client() as client:
        watched = await client.post("/v1/chat/completions", json=asked("hi", async_mode=True, stream=True))
        assert "[DONE]" in watched.text
        (job,) = (await api.context.jobs.jobs(OWNER)).jobs
        while not (await api.context.jobs.job(OWNER, job.id)).status.over:
            await trio.lowlevel.checkpoint()
        await client.post("/v1/chat/completions", json=asked("more"))
        assert read(api) == ["hi", "Hello world", "more"]


async def test_an_answer_that_failed_is_no_turn() -> None:
    fails = Scripted([Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")])
    async with running_api(fails, entropy=os.urandom) as api, api.client() as client:
        await client.post("/v1/chat/completions", json=asked("hi"))
        assert (await client.get("/v1/sessions/s")).status_code == 404


async def test_a_session_is_forgotten_on_demand() -> None:
    async with running_api(entropy=os.urandom) as api, api.client() as client:
        await client.post("/v1/chat/completions", json=asked("hi"))
        answer = await client.delete("/v1/sessions/s")
        assert answer.json() == {"id": "s", "object": "session.deleted", "deleted": True}
        assert (await client.delete("/v1/sessions/s")).status_code == 404
        await client.post("/v1/chat/completions", json=asked("more"))
        assert read(api) == ["more"]


async def test_two_principals_who_use_one_name_share_nothing() -> None:
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    ring = parse_keys(f"{hash_of(ALICE)}\n{hash_of(BOB)}")
    async with running_api(settings=settings, keys=ring, entropy=os.urandom) as api, api.client() as client:
        for key in (ALICE, BOB):
            headers = {"Authorization": f"Bearer {key}"}
            await client.post("/v1/chat/completions", json=asked(f"I am {key}"), headers=headers)
            assert read(api) == [f"I am {key}"]
        await client.delete("/v1/sessions/s", headers={"Authorization": f"Bearer {BOB}"})
        kept = await client.get("/v1/sessions/s", headers={"Authorization": f"Bearer {ALICE}"})
        assert kept.json()["messages"][0]["content"] == f"I am {ALICE}"
