"""Clients that leave or stop reading, in every dialect: their answers end, or go on where they were to be kept."""

from __future__ import annotations

import json
import os
from typing import Any, Final

import pytest
import trio

from meshnode.api.server import Timing
from tests.kit.api import CHAT, Api, Scripted, Step, endless, read_until, running_api, spoken

BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "store": False},
    "/v1/messages": {**CHAT, "max_tokens": 9},
    "/v1/chat/compare": {**CHAT, "models": ["tiny", "tiny:q4_1"]},
}
ENDLESS: Final = [*endless(), trio.sleep_forever]


async def ask(api: Api, client: trio.SocketStream, path: str, **fields: object) -> None:
    """Send a request; read nothing."""
    body = json.dumps({**BODIES[path], **fields}).encode()
    head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    await client.send_all(api.head("POST", path, *head) + body)


async def none_inside(dispatcher: Scripted) -> None:
    """Wait until nothing is being answered."""
    with trio.fail_after(20):
        while dispatcher.inside:
            await dispatcher.left.wait()
            dispatcher.left = trio.Event()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", BODIES)
async def test_a_client_that_leaves_ends_its_answer(path: str, stream: bool) -> None:
    dispatcher = Scripted(ENDLESS)
    async with running_api(dispatcher, entropy=os.urandom) as api:
        async with api.raw() as client:
            await ask(api, client, path, stream=stream)
            await dispatcher.entered.wait()
            if stream:
                await read_until(client, b"more")
        await none_inside(dispatcher)
        assert api.context.turnstile.admission.generating == 0


@pytest.mark.parametrize("path", BODIES)
async def test_a_client_that_reads_nothing_is_cut_and_others_are_served_meanwhile(path: str) -> None:
    dispatcher = Scripted(endless("x" * 65536), forever=True)
    async with running_api(dispatcher, timing=Timing(write_s=1.0), entropy=os.urandom) as api:
        async with api.raw() as deaf, api.client() as other:
            await ask(api, deaf, path, stream=True)
            await read_until(deaf, b"xxx")
            assert (await other.get("/v1/models")).status_code == 200
            await none_inside(dispatcher)
        assert api.context.turnstile.admission.generating == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_client_that_leaves_a_stored_stream_leaves_no_half_answer(path: str) -> None:
    dispatcher = Scripted(ENDLESS)
    async with running_api(dispatcher, entropy=os.urandom) as api, api.client() as other:
        async with api.raw() as client:
            await ask(api, client, path, stream=True, store=True)
            await read_until(client, b"more")
        await none_inside(dispatcher)
        assert (await other.get("/v1/chat/completions")).json()["data"] == []
        assert (await other.get("/v1/jobs")).json()["data"] == []
        assert await api.context.history.counts() == {}


async def test_who_watches_a_job_may_leave_or_read_nothing_and_it_goes_on() -> None:
    go_on = trio.Event()
    text = "x" * 65536
    steps: list[Step] = [*spoken(text)[:2], go_on.wait, *spoken(*[text] * 100)[1:]]
    dispatcher = Scripted(steps)
    async with running_api(dispatcher, timing=Timing(write_s=0.5), entropy=os.urandom) as api, api.client() as other:
        async with api.raw() as leaves, api.raw() as deaf:
            await ask(api, leaves, "/v1/responses", background=True, store=True, stream=True)
            first = await read_until(leaves, b"output_text.delta")
            id_ = "resp_" + first.partition(b"resp_")[2][:24].decode()
            await deaf.send_all(api.head("GET", f"/v1/responses/{id_}?stream=true"))
            await read_until(deaf, b"output_text.delta")
            await leaves.aclose()
            go_on.set()
            response = await over(other, id_)
        assert response["status"] == "completed"
        assert len(response["output"][0]["content"][0]["text"]) == 101 * len(text)


async def over(client: Any, id_: str) -> dict[str, Any]:
    """The response, once it is over."""
    while True:
        response: dict[str, Any] = (await client.get(f"/v1/responses/{id_}")).json()
        if response["status"] not in ("queued", "in_progress"):
            return response


async def test_cancelled_and_deleted_at_once_a_job_ends_once() -> None:
    async with running_api(Scripted(ENDLESS, forever=True), entropy=os.urandom) as api, api.client() as client:
        for ways in ((cancel, cancel), (cancel, delete), (delete, delete), (delete, cancel, delete)):
            told = (await client.post("/v1/responses", json={"input": "hi", "background": True})).json()
            statuses: list[int] = []
            async with trio.open_nursery() as nursery:
                for way in ways:
                    nursery.start_soon(way, client, told["id"], statuses)
            assert set(statuses) <= {200, 404}, statuses
            assert 200 in statuses
            there = await client.get(f"/v1/responses/{told['id']}")
            assert there.status_code == (404 if delete in ways else 200)
            await none_inside(api.scripted)
        assert await api.context.history.counts() == {"job": 1}


async def cancel(client: Any, id_: str, statuses: list[int]) -> None:
    statuses.append((await client.post(f"/v1/responses/{id_}/cancel", headers=JSON)).status_code)


async def delete(client: Any, id_: str, statuses: list[int]) -> None:
    statuses.append((await client.delete(f"/v1/responses/{id_}")).status_code)


JSON: Final = {"content-type": "application/json"}


async def test_two_hundred_clients_of_all_dialects_at_once_are_all_answered() -> None:
    dispatcher = Scripted(spoken("Hello", " world"))
    async with running_api(dispatcher, entropy=os.urandom) as api, api.client() as client:
        answers: list[str] = []

        async def one(number: int) -> None:
            path = list(BODIES)[number % len(BODIES)]
            body = {**BODIES[path], "stream": number % 2 == 0}
            answers.append((await client.post(path, json=body)).raise_for_status().text)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(one, number)
        assert len(answers) == 200
        assert all("Hello" in answer for answer in answers)
        assert dispatcher.inside == 0
        assert api.context.turnstile.admission.generating == 0
