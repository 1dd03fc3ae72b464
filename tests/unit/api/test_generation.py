"""Answers over a real socket: one-shot and streamed, waiting, failing, stopping."""

from __future__ import annotations

import json
import threading

import pytest
import trio
import trio.lowlevel

from meshnode.api.chat_schema import parse_chat
from meshnode.api.generation import LARGE_BODY, parsed
from meshnode.api.schema import Ask, Asker
from meshnode.config import ApiSettings
from meshnode.domain import OWNER, RequestId
from meshnode.errors import ModelFailed, ModelNotFound, Overloaded
from meshnode.events import Failed, Finished, Loading, Queued, Started, TextDelta, Usage
from tests.kit.api import CHAT, Scripted, Step, endless, running_api, spoken, sse_data

STREAM = {**CHAT, "stream": True}


async def test_a_one_shot_answer_waits_for_the_end_and_keeps_the_status_of_a_late_failure() -> None:
    steps: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.", retry_after_s=1)]
    async with running_api(Scripted(steps)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "worker_died"
    assert answer.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("body", [CHAT, STREAM])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNotFound("no"), 404),
        (Overloaded("full"), 503),
        (ModelFailed("bad file"), 503),
        (ValueError("SECRET"), 500),
    ],
)
async def test_a_refusal_has_its_own_status_streamed_or_not(body: object, error: Exception, status: int) -> None:
    async with running_api(Scripted([], refusal=error)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "SECRET" not in answer.text


async def test_a_failure_while_the_model_loads_keeps_its_status_in_a_stream() -> None:
    steps: list[Step] = [Loading(0.1), Loading(0.9), Failed("model_failed", "the file is damaged.")]
    async with running_api(Scripted(steps)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    assert answer.status_code == 503


async def test_a_stream_that_waits_long_is_begun_with_a_comment_and_goes_on_with_comments() -> None:
    go = trio.Event()
    steps: list[Step] = [Queued(3), go.wait, *spoken("Hello")]
    async with (
        running_api(Scripted(steps), commit_after_s=0.05, comment_every_s=0.05) as api,
        api.client() as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM) as answer,
    ):
        lines = answer.aiter_lines()
        said = [await anext(lines) for _ in range(5)]
        go.set()
        rest = [line async for line in lines]
        assert answer.status_code == 200
    assert said[0] == ": queued, position 3"
    assert said.count(": queued, position 3") >= 2
    assert rest[-2] == "data: [DONE]"
    assert "Hello" in "".join(rest)


async def test_a_failure_after_the_stream_began_is_an_error_event_and_the_end() -> None:
    steps: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]
    async with running_api(Scripted(steps)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    *_, last = sse_data(answer.text)
    assert answer.status_code == 200
    assert json.loads(last)["error"]["code"] == "worker_died"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("steps", [[Started(5), TextDelta("a"), ValueError("SECRET")], [Started(5), TextDelta("a")]])
async def test_a_defect_in_mid_stream_is_an_error_event_that_tells_nothing(steps: list[Step]) -> None:
    async with running_api(Scripted(steps)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    *_, last = sse_data(answer.text)
    assert json.loads(last)["error"]["code"] == "internal_error"
    assert "SECRET" not in answer.text


async def test_text_that_piled_up_is_sent_in_few_chunks() -> None:
    many: list[Step] = [Started(5), *[TextDelta("x")] * 60, Finished(Usage(5, 60))]
    async with running_api(Scripted(many)) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=STREAM)
    chunks = [json.loads(data) for data in sse_data(answer.text) if data != "[DONE]"]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "x" * 60
    assert len(chunks) <= 60


async def test_completions_speak_their_own_dialect() -> None:
    async with running_api(Scripted(spoken("a", "b"))) as api, api.client() as client:
        answer = await client.post("/v1/completions", json={"prompt": "x"})
        assert api.scripted.requests[0].prompt == "x"
    assert answer.json()["object"] == "text_completion"
    assert answer.json()["id"].startswith("cmpl-")


async def test_more_than_are_taken_get_503_and_one_that_waits_is_served_in_its_turn() -> None:
    go = trio.Event()
    dispatcher = Scripted([go.wait, *spoken("done")])
    settings = ApiSettings(address="127.0.0.1:0", max_generating=1, max_queued=1)
    async with running_api(dispatcher, settings=settings) as api, api.client() as client:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await client.post("/v1/chat/completions", json=CHAT)).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await dispatcher.entered.wait()
            nursery.start_soon(ask)
            while not api.context.turnstile.admission.queued:
                await trio.lowlevel.checkpoint()
            refused = await client.post("/v1/chat/completions", json=CHAT)
            assert dispatcher.inside == 1
            go.set()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert statuses == [200, 200]


async def test_a_request_that_waits_for_its_turn_too_long_is_504() -> None:
    dispatcher = Scripted([trio.sleep_forever])
    settings = ApiSettings(address="127.0.0.1:0", max_generating=1)
    async with (
        running_api(dispatcher, settings=settings) as api,
        api.client() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(lambda: client.post("/v1/chat/completions", json=CHAT))
        await dispatcher.entered.wait()
        answer = await client.post("/v1/chat/completions", json={**CHAT, "deadline_ms": 50})
        nursery.cancel_scope.cancel()
    assert answer.status_code == 504


async def test_a_node_that_stops_ends_one_shot_answers_with_503_and_takes_no_more() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    async with running_api(dispatcher) as api, api.client() as client:
        answers = []

        async def ask() -> None:
            answers.append(await client.post("/v1/chat/completions", json=CHAT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await dispatcher.entered.wait()
            api.context.draining.set()
    assert answers[0].status_code == 503
    assert answers[0].json()["error"]["code"] == "draining"


@pytest.mark.parametrize(("size", "beside"), [(100, False), (LARGE_BODY, True)])
async def test_only_a_large_body_is_read_beside_the_event_loop(size: int, beside: bool) -> None:
    threads = []

    def parse(body: bytes, asker: Asker) -> Ask:
        threads.append(threading.get_ident())
        return parse_chat(body, asker)

    body = b'{"messages":[{"role":"user","content":"hi"}]}'.ljust(size)
    ask = await parsed(parse, body, Asker(RequestId("r1"), OWNER))
    assert ask.request.id == "r1"
    assert (threads != [threading.get_ident()]) is beside
