"""Answers that are kept, asked for over a real socket."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.api.kept import JobFeed, KeepingFeed, follow_job
from meshnode.domain import OWNER, CallerId
from meshnode.errors import Cancelled, DiskFull, Draining, NotFound
from meshnode.events import Failed, Finished, Started, TextDelta
from meshnode.gateway.feed import start_feed
from meshnode.gateway.job import Job, JobStatus
from meshnode.gateway.keeping import NOTHING_KEPT
from meshnode.storage.database import open_inline
from tests.kit.api import CHAT, Api, Scripted, Step, a_context, read_until, running_api, spoken, sse_data
from tests.kit.jobs import a_job
from tests.kit.kept import with_jobs

STORED = {**CHAT, "store": True}
LATER = {**CHAT, "async_mode": True}
FOREVER: list[Step] = [Started(5), TextDelta("a"), trio.sleep_forever]
FAILS: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]


async def job_of(api: Api, id_: str) -> Job:
    return await api.context.jobs.job(OWNER, id_)


async def over(client: httpx2.AsyncClient, id_: str) -> dict[str, Any]:
    """The job once it is over; its stream ends then."""
    while True:
        told: dict[str, Any] = (await client.get(f"/v1/jobs/{id_}")).json()
        if told["status"] not in ("queued", "in_progress"):
            return told
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stored_answer_is_had_again_by_its_id_as_it_was(streamed: bool) -> None:
    async with running_api(Scripted(spoken("Hel", "lo"))) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json={**STORED, "stream": streamed})
        first = json.loads(next(sse_data(answer.text))) if streamed else answer.json()
        told = (await client.get(f"/v1/jobs/{first['id']}")).json()
        job = await job_of(api, first["id"])
    assert answer.status_code == 200
    assert told["status"] == "completed"
    assert told["result"]["choices"][0]["message"]["content"] == "Hello"
    assert told["result"]["usage"]["completion_tokens"] == 2
    assert streamed or told["result"] == first
    assert job.events[1] == TextDelta("Hello")
    assert not job.background


async def test_an_answer_nobody_asked_to_keep_is_not_kept() -> None:
    async with running_api() as api, api.client() as client:
        for store in ({}, {"store": False}, {"store": None}):
            answer = await client.post("/v1/chat/completions", json={**CHAT, **store})
            assert (await client.get(f"/v1/jobs/{answer.json()['id']}")).status_code == 404
        assert await api.context.history.counts() == {}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_failed_once_begun_is_kept_as_failed(streamed: bool) -> None:
    async with running_api(Scripted(FAILS)) as api, api.client() as client:
        await client.post("/v1/chat/completions", json={**STORED, "stream": streamed})
        (job,) = (await api.context.jobs.jobs(OWNER)).jobs
        told = (await client.get(f"/v1/jobs/{job.id}")).json()
    assert (told["status"], told["result"]) == ("failed", None)
    assert told["error"]["code"] == "worker_died"


async def test_a_refused_request_is_not_kept() -> None:
    async with running_api(Scripted([], refusal=NotFound("no"))) as api, api.client() as client:
        assert (await client.post("/v1/chat/completions", json=STORED)).status_code == 404
        assert await api.context.history.counts() == {}


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(job: Job) -> None:
        raise DiskFull("no space.")

    async with running_api() as api, api.client() as client:
        monkeypatch.setattr(api.context.jobs, "keep", full)
        with structlog.testing.capture_logs() as logs:
            answer = await client.post("/v1/chat/completions", json={**STORED, "stream": streamed})
    assert answer.status_code == 200
    assert "[DONE]" in answer.text if streamed else answer.headers["x-mesh-warning"] == "not kept: disk_full"
    assert [log["code"] for log in logs if log["event"] == "answer_not_kept"] == ["disk_full"]


@pytest.mark.parametrize("field", ["store", "async_mode"])
async def test_where_keeping_is_off_it_is_refused_by_name(field: str) -> None:
    async with running_api(jobs=Off()) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json={**CHAT, field: True})
        plain = await client.post("/v1/chat/completions", json={**CHAT, field: False})
        assert api.scripted.requests[1:] == []
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert plain.status_code == 200


class Off(type(NOTHING_KEPT.jobs)):  # type: ignore[misc]  # the kit gives real jobs to who names none
    """Keeping is off."""


# --- in the background ----------------------------------------------------------------------------


async def test_a_request_in_the_background_is_answered_later() -> None:
    go = trio.Event()
    async with running_api(Scripted([go.wait, *spoken("Hel", "lo")])) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=LATER)
        told = answer.json()
        assert answer.status_code == 202
        assert (told["object"], told["status"]) == ("job", "queued")
        assert (await client.get(told["links"]["self"])).json()["result"] is None
        go.set()
        done = await over(client, told["id"])
    assert done["status"] == "completed"
    assert done["result"]["id"] == told["id"]
    assert done["result"]["choices"][0]["message"]["content"] == "Hello"


async def test_completions_are_answered_later_too() -> None:
    async with running_api(Scripted(spoken("Hello"))) as api, api.client() as client:
        told = (await client.post("/v1/completions", json={"prompt": "x", "async_mode": True})).json()
        done = await over(client, told["id"])
    assert done["result"]["object"] == "text_completion"
    assert done["result"]["choices"][0]["text"] == "Hello"


async def test_a_client_that_leaves_does_not_end_a_job_in_the_background() -> None:
    go = trio.Event()
    body = json.dumps({**LATER, "stream": True}).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    async with running_api(Scripted([Started(5), TextDelta("Hel"), go.wait, *spoken("lo")])) as api:
        async with api.raw() as stream:
            await stream.send_all(api.head("POST", "/v1/chat/completions", *lines) + body)
            await read_until(stream, b"Hel")
        go.set()
        async with api.client() as client:
            (job,) = (await api.context.jobs.jobs(OWNER)).jobs
            done = await over(client, job.id)
    assert done["result"]["choices"][0]["message"]["content"] == "Hello"


async def test_a_job_is_watched_in_the_chunks_in_which_it_is_kept() -> None:
    async with running_api(Scripted(spoken(*"abcd"))) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json={**LATER, "stream": True})
        chunks = [json.loads(data) for data in sse_data(answer.text) if data != "[DONE]"]
        job = await job_of(api, chunks[0]["id"])
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert [text for text in said if text] == [event.text for event in job.events if isinstance(event, TextDelta)]
    assert answer.headers["x-mesh-route"].startswith("background")


async def test_a_running_job_is_cancelled_and_stays_so() -> None:
    async with running_api(Scripted(FOREVER)) as api, api.client() as client:
        told = (await client.post("/v1/chat/completions", json=LATER)).json()
        await api.scripted.entered.wait()
        for _ in range(2):
            cancelled = await client.post(told["links"]["cancel"])
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert api.scripted.inside == 0


# --- the feeds ------------------------------------------------------------------------------------


async def test_an_answer_is_kept_though_its_reader_was_cut_off_meanwhile(autojump_clock: MockClock) -> None:
    kept: list[Job] = []

    class Slow(type(NOTHING_KEPT.jobs)):  # type: ignore[misc]
        async def keep(self, job: Job) -> None:
            await trio.sleep(5)
            kept.append(job)

    context = a_context(Scripted(spoken("Hello")), [], jobs=Slow())
    async with trio.open_nursery() as nursery:
        feed = KeepingFeed(context, start_feed(nursery, context, a_job().request), a_job())
        events = []
        for patience in (1, 1, 1, 1, 10):
            with trio.move_on_after(patience):
                events.append(await feed.receive())
        assert isinstance(events[-1], Finished)
        assert await feed.receive() is None
    assert [job.status for job in kept] == [JobStatus.COMPLETED]


async def read(feed: JobFeed) -> None:
    """To its end."""
    while await feed.receive() is not None:
        pass


async def test_who_follows_is_told_of_a_cancelled_a_deleted_and_a_stopped_job() -> None:
    async with open_inline() as database:
        context = a_context(Scripted(FOREVER), [])
        async with with_jobs(context, database) as context, trio.open_nursery() as nursery:
            for end in (context.jobs.cancel, context.jobs.delete):
                await context.jobs.submit(a_job())
                feed = await follow_job(nursery, context, OWNER, "job_1")
                assert await feed.receive() == Started(5)
                await end(OWNER, "job_1")
                with pytest.raises(Cancelled):
                    await read(feed)
            await context.jobs.submit(a_job())
            feed = await follow_job(nursery, context, OWNER, "job_1")
            assert await feed.receive() == Started(5)
            context.draining.set()
            with pytest.raises(Draining):
                await read(feed)
            with pytest.raises(NotFound):
                await follow_job(nursery, context, CallerId("key:other"), "job_1")
