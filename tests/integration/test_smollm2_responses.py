"""Responses of a real node with the real SmolLM2, by the official ``openai`` package, strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import CustomToolParam, FunctionToolParam, Response

from tests.kit.node import Node, running_node
from tests.kit.response_events import checked
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.slow, pytest.mark.model]

MODEL = "smollm2-135m-instruct"
CITY: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = FunctionToolParam(
    type="function", name="get_weather", description="The weather of a city.", parameters=CITY, strict=True
)
WINDOW_S = 120.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with SmolLM2."""
    home = tmp_path_factory.mktemp("responses") / "home"
    with running_node(home, "--model", str(smollm2_path()), "--context", "2048") as running:
        yield running


@pytest.fixture
def sdk(node: Node) -> Iterator[OpenAI]:
    """The package, checking every answer against its types."""
    with OpenAI(
        base_url=f"{node.api}/v1", api_key="unused", max_retries=0, timeout=120, _strict_response_validation=True
    ) as client:
        yield client


def asked(**fields: Any) -> dict[str, Any]:
    """A request that any node answers alike."""
    return {"model": MODEL, "temperature": 0, "max_output_tokens": 24, **fields}


def test_a_stream_comes_to_what_one_shot_gives_and_is_kept(sdk: OpenAI) -> None:
    whole = sdk.responses.create(**asked(input="What is the capital of France?"))
    events = list(sdk.responses.create(**asked(input="What is the capital of France?", stream=True)))
    final = checked([event.model_dump(mode="json", exclude_unset=True, by_alias=True) for event in events])
    kept = sdk.responses.retrieve(final["id"])
    assert whole.output_text == final["output"][0]["content"][0]["text"] == kept.output_text
    assert whole.output_text
    assert whole.usage is not None
    assert (
        whole.usage.input_tokens
        == sdk.responses.input_tokens.count(model=MODEL, input="What is the capital of France?").input_tokens
    )


def test_a_conversation_goes_on(sdk: OpenAI) -> None:
    first = sdk.responses.create(**asked(input="My name is Ann. Say hello to me."))
    second = sdk.responses.create(**asked(input="What is my name?", previous_response_id=first.id))
    assert second.output_text
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


def test_a_call_of_a_namespace_and_its_result(sdk: OpenAI) -> None:
    group = {"type": "namespace", "name": "sky", "description": "About the sky.", "tools": [WEATHER]}
    fields = asked(tools=[group, {"type": "web_search"}], max_output_tokens=60, stream=False)
    chosen: dict[str, Any] = {"tool_choice": {"type": "function", "name": "get_weather"}}
    answer: Response = sdk.responses.create(**fields, **chosen, input="What is the weather in Paris?")
    (call,) = answer.output
    assert call.type == "function_call"
    assert (call.name, call.namespace) == ("get_weather", "sky")
    assert json.loads(call.arguments).keys() == {"city"}
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "snow, -3 degrees"}
    said: Response = sdk.responses.create(**fields, input=[result], previous_response_id=answer.id)
    assert said.output


def test_a_custom_tool_gets_plain_text(sdk: OpenAI) -> None:
    shell = CustomToolParam(type="custom", name="shell", description="Run a command.")
    fields = asked(tools=[shell], tool_choice="required", max_output_tokens=60, parallel_tool_calls=False)
    events = list(sdk.responses.create(**fields, input="List the files.", stream=True))
    final = checked([event.model_dump(mode="json", exclude_unset=True, by_alias=True) for event in events])
    (call,) = final["output"]
    assert (call["type"], call["name"]) == ("custom_tool_call", "shell")
    assert call["status"] != "completed" or not call["input"].startswith("{")


def test_a_structured_answer_with_logprobs(sdk: OpenAI) -> None:
    held = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    answer = sdk.responses.create(
        **asked(input="A city?", text={"format": held}, include=["message.output_text.logprobs"], top_logprobs=2)
    )
    (message,) = answer.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert json.loads(part.text).keys() == {"city"}
    assert part.logprobs
    assert b"".join(bytes(one.bytes) for one in part.logprobs).decode().strip() == part.text.strip()
    assert all(len(one.top_logprobs) == 2 for one in part.logprobs)


def test_in_the_background_and_cancelled(sdk: OpenAI) -> None:
    begun = sdk.responses.create(**asked(input="Tell me a story.", background=True))
    events = list(sdk.responses.retrieve(begun.id, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete")
    endless = asked(input="On and on.", background=True, max_output_tokens=1500)
    story = sdk.responses.create(**endless, extra_body={"ignore_eos": True})
    began = monotonic()
    with sdk.responses.retrieve(story.id, stream=True) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    assert sdk.responses.cancel(story.id).status == "cancelled"
    assert monotonic() - began < WINDOW_S


def test_a_prompt_too_long_is_named(sdk: OpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(**asked(input="word " * 4000, stream=stream))
        assert caught.value.code == "context_length_exceeded"
