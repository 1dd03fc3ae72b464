"""Anthropic's API over the real dispatcher, pool and scheduler; and over SmolLM2, which answers and calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.integration.test_api_engine import api_over_an_engine, running, until_idle
from tests.kit.anthropic_shapes import Message, Text, ToolUse, frames, message, read
from tests.kit.api import Api, read_until
from tests.kit.node import running_node
from tests.kit.smollm2 import smollm2_path

HI = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"max_tokens": 24, "messages": HI, "seed": 7, "ignore_eos": True}


async def ask(api: Api, body: object, path: str = "/v1/messages") -> httpx2.Response:
    async with api.client() as client:
        return await client.post(path, json=body)


async def test_a_stream_adds_up_to_the_message_that_one_shot_gives() -> None:
    async with api_over_an_engine() as api:
        whole = message((await ask(api, BODY)).json())
        reading = read(frames((await ask(api, BODY | {"stream": True})).text))
    assert reading.message is not None
    assert reading.message.content == whole.content
    assert whole.content
    assert whole.stop_reason == reading.message.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == reading.message.usage.output_tokens == 24


async def test_an_answer_that_fills_the_context_says_so() -> None:
    body = BODY | {"max_tokens": 32_000, "messages": [{"role": "user", "content": "x" * 8000}]}
    async with api_over_an_engine() as api:
        told = message((await ask(api, body)).json())
    assert told.stop_reason == "model_context_window_exceeded"
    assert told.usage.output_tokens < 32_000


async def test_a_prompt_too_long_is_told_in_the_words_that_coding_agents_know() -> None:
    body = BODY | {"messages": [{"role": "user", "content": "x" * 20_000}]}
    async with api_over_an_engine() as api:
        for stream in (False, True):
            answer = await ask(api, body | {"stream": stream})
            assert answer.status_code == 400
            told = answer.json()["error"]
            assert told["type"] == "invalid_request_error"
            assert told["message"].startswith("prompt is too long: ")
            assert " tokens > 8192 maximum" in told["message"]


async def test_a_count_is_what_the_message_then_costs() -> None:
    async with api_over_an_engine() as api:
        counted = (await ask(api, {"messages": HI}, "/v1/messages/count_tokens")).json()
        usage = message((await ask(api, BODY)).json()).usage
    assert counted == {"input_tokens": usage.input_tokens + usage.cache_read_input_tokens}


async def test_a_client_that_leaves_frees_its_slot_streaming_or_not() -> None:
    endless = {"messages": HI, "max_tokens": 8000, "ignore_eos": True}
    async with api_over_an_engine() as api:
        await ask(api, BODY)
        for stream in (True, False):
            body = json.dumps(endless | {"stream": stream}).encode()
            head = ("Content-Type: application/json", f"Content-Length: {len(body)}")
            async with api.raw() as leaver:
                await leaver.send_all(api.head("POST", "/v1/messages", *head) + body)
                if stream:
                    await read_until(leaver, b"message_start")
                with trio.fail_after(20):
                    while not await running(api):
                        await trio.lowlevel.checkpoint()
            await until_idle(api)


# --- a real model ---------------------------------------------------------------------------------

TOOL = {
    "name": "get_weather",
    "description": "The weather of a city now.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CODING_AGENT: dict[str, Any] = {
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=NONCE;"},
        {"type": "text", "text": "You help with the weather. " * 12, "cache_control": {"type": "ephemeral"}},
    ],
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
    "metadata": {"user_id": "u"},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with SmolLM2: its base URL."""
    home: Path = tmp_path_factory.mktemp("node") / "home"
    with running_node(home, "--model", str(smollm2_path())) as node:
        yield node.api


def said(api: str, **fields: Any) -> Message:
    """A message of the likeliest tokens."""
    body = {"model": "smollm2-135m-instruct", "max_tokens": 60, "temperature": 0} | fields
    answer = httpx2.post(f"{api}/v1/messages?beta=true", json=body, timeout=120, trust_env=False)
    assert answer.status_code == 200, answer.text
    return message(answer.json())


@pytest.mark.model
def test_a_round_of_tools_with_a_real_model(api: str) -> None:
    asked = {"role": "user", "content": "How is the weather in Paris?"}
    forced = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    first = said(api, messages=[asked], tools=[TOOL], tool_choice=forced, **CODING_AGENT)
    (call,) = (block for block in first.content if isinstance(block, ToolUse))
    assert first.stop_reason == "tool_use"
    assert call.name == "get_weather"
    assert isinstance(call.input["city"], str)
    block = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "18 degrees"}]}
    turns = [asked, {"role": "assistant", "content": [block]}, {"role": "user", "content": [result]}]
    second = said(api, messages=turns, tools=[TOOL], tool_choice={"type": "none"}, **CODING_AGENT)
    assert [type(each) for each in second.content] == [Text]


@pytest.mark.model
def test_the_prefix_is_found_again_though_the_agents_nonce_changed(api: str) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "system", "content": "Be brief."}]
    for nonce, found in (("36ee5", False), ("0aaa9", True)):
        system = json.loads(json.dumps(CODING_AGENT["system"]).replace("NONCE", nonce))
        usage = said(api, messages=turns, **CODING_AGENT | {"system": system, "max_tokens": 2}).usage
        assert not found or usage.input_tokens == 1
    assert usage.cache_read_input_tokens > 60


@pytest.mark.model
def test_an_answer_in_a_form_and_one_that_was_begun(api: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form = {"format": {"type": "json_schema", "schema": schema | {"additionalProperties": False}}}
    asked = {"role": "user", "content": "What is the capital of France?"}
    (text,) = said(api, messages=[asked], output_config=form).content
    assert isinstance(text, Text)
    assert json.loads(text.text).keys() == {"city"}
    begun = {"role": "assistant", "content": "The capital of France is"}
    stopped = said(api, messages=[asked, begun], stop_sequences=["."])
    (rest,) = stopped.content
    assert isinstance(rest, Text)
    assert "Paris" in rest.text
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", ".")
