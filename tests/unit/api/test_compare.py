"""One prompt to several models at a time, on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from meshnode.domain import GenerationRequest
from meshnode.errors import ModelNotFound
from meshnode.events import Charge, Failed, Finished, Started, TextDelta
from meshnode.mesh.answer import Answer
from tests.kit.api import CHAT, ScriptedAnswer, Step, endless, running_api, spoken, sse_data


class ByModel:
    """A dispatcher that answers each model as its script says; one without a script is not found."""

    def __init__(self, scripts: Mapping[str, Sequence[Step]], *, forever: bool = False) -> None:
        self._scripts = scripts
        self._forever = forever
        self.requests: list[GenerationRequest] = []
        self.inside = 0
        self.all_left = trio.Event()

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer."""
        self.requests.append(request)
        if request.model not in self._scripts:
            raise ModelNotFound(f"no model {request.model!r}.", param="model")
        self.inside += 1
        try:
            yield ScriptedAnswer(self._scripts[request.model], forever=self._forever)
        finally:
            self.inside -= 1
            if not self.inside:
                self.all_left.set()


def paid(*texts: str) -> Sequence[Step]:
    """An answer that cost something."""
    *steps, last = spoken(*texts)
    assert isinstance(last, Finished)
    return [*steps, msgspec.structs.replace(last, charge=Charge("rcpt_1", 2125))]


async def test_answers_stand_side_by_side_in_the_order_asked() -> None:
    dispatcher = ByModel({"a": spoken("Hello", " you"), "b": paid("Moin")})
    async with running_api(dispatcher) as api, api.client() as client:
        answer = await client.post("/v1/chat/compare", json={**CHAT, "models": ["a", "b"], "max_tokens": 9})
    body = answer.json()
    assert (answer.status_code, body["object"]) == (200, "chat.comparison")
    first, second = body["data"]
    assert (first["entry"], first["model"], second["entry"], second["model"]) == (0, "a", 1, "b")
    said = [entry["response"]["choices"][0]["message"]["content"] for entry in body["data"]]
    assert said == ["Hello you", "Moin"]
    assert first["response"]["usage"]["completion_tokens"] == 2
    assert (first["cost"], second["cost"], second["mesh"]["receipt"]) == (0, 2125, "rcpt_1")
    assert 0 <= first["first_token_ms"] <= first["time_ms"]
    assert (first["route"], first["answered_by"]) == ("local", "tiny:q4_1")
    assert {request.stopping.max_tokens for request in dispatcher.requests} == {9}


async def test_a_models_failure_is_its_own() -> None:
    failing: list[Step] = [Started(5), TextDelta("He"), Failed("peer_failed", "it died.")]
    async with running_api(ByModel({"a": failing, "b": spoken("Moin")})) as api, api.client() as client:
        answer = await client.post("/v1/chat/compare", json={**CHAT, "models": ["a", "nowhere", "b"]})
    dead, unknown, well = answer.json()["data"]
    assert answer.status_code == 200
    assert (dead["error"]["code"], dead["status"]) == ("peer_failed", 502)
    assert (unknown["error"]["code"], unknown["status"], unknown["model"]) == ("model_not_found", 404, "nowhere")
    assert well["response"]["choices"][0]["message"]["content"] == "Moin"


async def test_a_body_that_is_wrong_is_refused_whole() -> None:
    async with running_api() as api, api.client() as client:
        answer = await client.post("/v1/chat/compare", json={**CHAT, "models": ["a"]})
        assert (await client.get("/v1/chat/compare")).status_code == 405
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "models")


def chunks(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends as it should."""
    *found, done = sse_data(text)
    assert done == "[DONE]"
    return [msgspec.json.decode(one) for one in found]


async def test_a_stream_interleaves_chunks_that_say_whose_they_are() -> None:
    turn = trio.Event()

    async def wait() -> None:
        await turn.wait()

    async def let() -> None:
        turn.set()

    slow = [Started(5), TextDelta("one"), wait, *spoken("two")[1:]]
    quick = [*paid("eins", "zwei")[:-1], let, paid("eins", "zwei")[-1]]
    body = {**CHAT, "models": ["slow", "quick", "nowhere"], "stream": True}
    async with running_api(ByModel({"slow": slow, "quick": quick})) as api, api.client() as client:
        answer = await client.post("/v1/chat/compare", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = chunks(answer.text)
    assert {(chunk["entry"], chunk["model"]) for chunk in found} == {(0, "slow"), (1, "quick"), (2, "nowhere")}
    said = {0: "", 1: ""}
    for chunk in found:
        for choice in chunk.get("choices", ()):
            said[chunk["entry"]] += choice["delta"].get("content") or ""
    assert said == {0: "onetwo", 1: "einszwei"}
    ends = {chunk["entry"]: chunk for chunk in found if chunk.get("choices") == []}
    assert ends[1]["usage"]["completion_tokens"] == 2
    assert (ends[0]["cost"], ends[1]["cost"], ends[1]["mesh"]["receipt"]) == (0, 2125, "rcpt_1")
    assert ends[0]["time_ms"] >= ends[0]["first_token_ms"] >= 0
    [error] = [chunk for chunk in found if "error" in chunk]
    assert (error["entry"], error["error"]["code"]) == (2, "model_not_found")
    order = [chunk["entry"] for chunk in found if chunk["entry"] != 2]
    assert order.index(1) < len(order) - 1 - order[::-1].index(0), "the slow one ends after the quick one began"


async def test_a_silent_stream_says_that_it_lives() -> None:
    turn = trio.Event()
    dispatcher = ByModel({"a": [turn.wait, *spoken("x")], "b": spoken("y")})
    body = {**CHAT, "models": ["a", "b"], "stream": True}
    async with (
        running_api(dispatcher, comment_every_s=0.05) as api,
        api.client() as client,
        client.stream("POST", "/v1/chat/compare", json=body) as answer,
    ):
        text = ""
        async for piece in answer.aiter_text():
            text += piece
            if ": waiting" in text:
                turn.set()
    assert text.endswith("data: [DONE]\n\n")


async def test_who_leaves_stops_every_model() -> None:
    for stream in (True, False):
        dispatcher = ByModel({"a": endless(), "b": endless()}, forever=True)
        async with running_api(dispatcher) as api:
            body = msgspec.json.encode({**CHAT, "models": ["a", "b"], "stream": stream})
            async with api.raw() as raw:
                head = api.head(
                    "POST", "/v1/chat/compare", "Content-Type: application/json", f"Content-Length: {len(body)}"
                )
                await raw.send_all(head + body)
                while dispatcher.inside < 2:
                    await trio.lowlevel.checkpoint()
            await dispatcher.all_left.wait()
