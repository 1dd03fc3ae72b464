"""Anthropic's API over real sockets: answers, streams, counts, models, and every error in its own shape."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from meshnode.config import ApiSettings
from meshnode.domain import Kind, ModelId
from meshnode.errors import ContextLengthExceeded, ModelNotFound, Overloaded, RateLimited
from meshnode.events import Counted, Failed, Finished, Started, TextDelta, Usage
from meshnode.gateway.keys import hash_of, new_key, parse_keys
from tests.kit.anthropic_shapes import ErrorEvent, Model, Page, Ping, Text, frames, message, read
from tests.kit.api import CARD, Api, MemoryLibrary, Scripted, Step, endless, read_all, read_until, running_api, spoken

BODY: dict[str, Any] = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
STREAM = BODY | {"stream": True}
VERSION = {"anthropic-version": "2023-06-01"}


def error(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, type and message of an error; asserts what holds for all of them."""
    told = msgspec.convert(answer.json(), ErrorEvent)
    assert told.request_id == answer.headers["request-id"] == answer.headers["x-request-id"]
    return answer.status_code, told.error.type, told.error.message


async def ask(api: Api, body: object, path: str = "/v1/messages", **headers: str) -> httpx2.Response:
    async with api.client() as client:
        return await client.post(path, json=body, headers=VERSION | headers)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true"])
async def test_a_message(path: str) -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        answer = await ask(api, BODY, path)
    told = message(answer.json())
    assert (told.content, told.stop_reason, told.model) == ([Text(text="Hello world")], "end_turn", CARD.id)
    assert (told.usage.input_tokens, told.usage.cache_read_input_tokens, told.usage.output_tokens) == (3, 2, 2)
    assert told.id.startswith("msg_")
    assert answer.headers["x-mesh-route"].startswith("local")


async def test_a_message_as_a_stream() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        answer = await ask(api, STREAM)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    reading = read(frames(answer.text))
    assert reading.over
    assert reading.message is not None
    assert reading.message.content == [Text(text="Hello world")]
    assert "[DONE]" not in answer.text


async def test_the_model_may_stand_in_the_path() -> None:
    async with running_api() as api:
        answer = await ask(api, {**BODY, "model": None}, "/v1/models/owner/repo:q8_0/messages")
        assert answer.status_code == 200
        assert api.scripted.requests[0].model == "owner/repo:q8_0"
        assert error(await ask(api, BODY | {"max_tokens": "x"}, "/v1/models/a/messages"))[:2] == (
            400, "invalid_request_error",
        )  # fmt: skip


def knock(api: Api, body: object) -> bytes:
    """A whole request for a bare connection."""
    data = json.dumps(body).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(data)}", "Connection: close")
    return api.head("POST", "/v1/messages", *lines) + data


async def test_while_it_waits_a_stream_has_comments_then_pings() -> None:
    first, last = trio.Event(), trio.Event()
    steps: list[Step] = [first.wait, Started(5), last.wait, *spoken("Hello")[1:]]
    async with running_api(Scripted(steps), commit_after_s=0.02, comment_every_s=0.02) as api, api.raw() as stream:
        await stream.send_all(knock(api, STREAM))
        before = await read_until(stream, b": waiting\n\n")
        assert b"event:" not in before
        first.set()
        said = await read_until(stream, b"event: ping")
        last.set()
        said += await read_all(stream)
    text = re.sub(rb"(?:\r\n)?[0-9a-f]+\r\n", b"", said).decode().strip()
    found = frames(text)
    assert text.index("event: message_start") < text.index("event: ping")
    assert any(isinstance(event, Ping) for event in found)
    assert read(found).over


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event() -> None:
    steps: list[Step] = [Started(5), TextDelta("Hel"), Failed("worker_died", "the worker died.")]
    async with running_api(Scripted(steps)) as api:
        answer = await ask(api, STREAM)
    reading = read(frames(answer.text))
    assert answer.status_code == 200
    assert reading.error is not None
    assert (reading.error.type, reading.error.message) == ("api_error", "the worker died.")


async def test_who_leaves_frees_the_slot() -> None:
    dispatcher = Scripted(endless(), forever=True)
    async with running_api(dispatcher) as api:
        async with api.raw() as stream:
            await stream.send_all(knock(api, STREAM))
            await read_until(stream, b"content_block_delta")
        await dispatcher.left.wait()
    assert dispatcher.inside == 0


async def test_a_count() -> None:
    async with running_api(Scripted([Started(12), Counted(12), Finished(Usage(12))])) as api:
        body = {name: value for name, value in BODY.items() if name != "max_tokens"}
        answer = await ask(api, body, "/v1/messages/count_tokens")
        assert api.scripted.requests[0].kind is Kind.COUNT
    assert answer.json() == {"input_tokens": 12}


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.parametrize(
    ("refusal", "status", "kind"),
    [
        (ModelNotFound("no model 'x'."), 404, "not_found_error"),
        (Overloaded("full.", retry_after_s=0.25), 503, "overloaded_error"),
        (RateLimited("too many."), 429, "rate_limit_error"),
        (ContextLengthExceeded("the prompt has 9 tokens; the model's context here is 8, answer included."), 400,
         "invalid_request_error"),
        (ValueError("SECRET"), 500, "api_error"),
    ],
)  # fmt: skip
async def test_refusals(body: object, refusal: Exception, status: int, kind: str) -> None:
    async with running_api(Scripted([], refusal=refusal)) as api:
        answer = await ask(api, body)
    assert error(answer)[:2] == (status, kind)
    assert "SECRET" not in answer.text
    assert (answer.headers["x-should-retry"] == "true") is (status in (429, 503))
    assert ("retry-after-ms" in answer.headers) is (status in (429, 503))


async def test_what_never_reaches_a_model_is_refused_in_the_same_shape() -> None:
    settings = ApiSettings(address="127.0.0.1:0", max_body=1024)
    async with running_api(settings=settings) as api, api.client() as client:
        sent = {"content-type": "application/json"} | VERSION

        async def post(content: bytes, path: str = "/v1/messages", **headers: str) -> tuple[int, str, str]:
            return error(await client.post(path, content=content, headers=sent | headers))

        assert (await post(b"{"))[:2] == (400, "invalid_request_error")
        assert (await post(b"[" * 65 + b"]" * 65))[:2] == (400, "invalid_request_error")
        assert (await post(b'{"max_tokens": NaN}'))[:2] == (400, "invalid_request_error")
        assert (await post(b" " * 1025))[:2] == (413, "request_too_large")
        assert (await post(b"{}", "/v1/messages/nix"))[:2] == (404, "not_found_error")
        assert (await post(b"{}", origin="https://evil.test"))[:2] == (403, "permission_error")
        assert (await post(b"{}", **{"content-type": "text/plain"}))[:2] == (415, "invalid_request_error")
        assert error(await client.get("/v1/messages"))[:2] == (405, "invalid_request_error")
        missing = await post(json.dumps({"messages": BODY["messages"]}).encode())
        assert missing[2].startswith("max_tokens is missing.")


async def test_keys_under_either_name() -> None:
    key = new_key(bytes(32))
    settings = ApiSettings(address="127.0.0.1:0", local_key=True)
    async with running_api(settings=settings, keys=parse_keys(hash_of(key))) as api:
        assert (await ask(api, BODY, **{"x-api-key": key, "authorization": "Bearer junk"})).status_code == 200
        assert (await ask(api, BODY, authorization=f"Bearer {key}")).status_code == 200
        for junk in ({"x-api-key": "junk", "authorization": f"Bearer {key}"}, {}):
            assert error(await ask(api, BODY, **junk))[:2] == (401, "authentication_error")
    async with running_api() as api:
        assert (await ask(api, BODY, **{"x-api-key": "junk", "authorization": "Bearer junk"})).status_code == 200


async def test_models_in_the_shape_of_who_asks() -> None:
    other = msgspec.structs.replace(CARD, id=ModelId("owner/other:q8_0"), name="Other")
    async with running_api(library=MemoryLibrary(CARD, other)) as api, api.client() as client:
        page = msgspec.convert((await client.get("/v1/models?limit=1", headers=VERSION)).json(), Page)
        rest = msgspec.convert((await client.get(f"/v1/models?after_id={page.last_id}", headers=VERSION)).json(), Page)
        one = msgspec.convert((await client.get("/v1/models/owner/other:q8_0", headers=VERSION)).json(), Model)
        assert error(await client.get("/v1/models?limit=0", headers=VERSION))[:2] == (400, "invalid_request_error")
        assert error(await client.get("/v1/models/nix", headers=VERSION))[:2] == (404, "not_found_error")
        assert (await client.get("/v1/models")).json()["object"] == "list"
    assert (page.has_more, [model.id for model in page.data]) == (True, [CARD.id])
    assert (rest.has_more, rest.data) == (False, [one])
    assert one.display_name == "Other"
