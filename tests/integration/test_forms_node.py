"""What an answer must be, of a real node with the real SmolLM2, by the official ``openai`` package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from time import monotonic
from typing import Annotated, Any

import httpx2
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, Field

from tests.kit.node import Node, running_node
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.slow, pytest.mark.model]

MODEL = "smollm2-135m-instruct"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Colour(StrEnum):
    """Of three."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Leaf(BaseModel):
    """Stands in a list."""

    colour: Colour


class Part(BaseModel):
    """Holds others."""

    name: Colour
    leaves: Annotated[list[Leaf], Field(max_length=2)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with SmolLM2."""
    home = tmp_path_factory.mktemp("forms") / "home"
    with running_node(home, "--model", str(smollm2_path()), "--context", "4096") as running:
        yield running


@pytest.fixture
def client(node: Node) -> Iterator[OpenAI]:
    """A client that refuses any answer which is not of OpenAI's shape."""
    with OpenAI(
        base_url=f"{node.api}/v1", api_key="unused", max_retries=0, timeout=120, _strict_response_validation=True
    ) as sdk:
        yield sdk


def test_the_sdk_parses_an_answer_into_a_model_of_models(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=ASKED, response_format=Part, max_tokens=600, temperature=0.3, seed=3
    )
    parsed = answer.choices[0].message.parsed
    assert answer.choices[0].finish_reason == "stop"
    assert parsed is not None
    assert parsed.name in Colour


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_must_be_made_is_made(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=100
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["unit"] in ("c", "f")
    assert answer.choices[0].finish_reason == "tool_calls"
    follow_up: list[ChatCompletionMessageParam] = [
        *ASKED,
        {"role": "assistant", "tool_calls": [call.to_dict()]},  # type: ignore[list-item]
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"},
    ]
    said = client.chat.completions.create(
        model=MODEL, messages=follow_up, tools=[WEATHER], tool_choice="none", max_tokens=20
    )
    assert said.choices[0].message.content


def test_a_streamed_call_is_put_together_by_the_sdk(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=100
    ) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["unit"] in ("c", "f")


def test_several_answers_with_the_probabilities_of_their_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASKED, n=3, max_tokens=8, logprobs=True, top_logprobs=2, seed=5, temperature=1.5
    )
    texts = [choice.message.content or "" for choice in answer.choices]
    assert len(set(texts)) == 3
    for choice in answer.choices:
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert bytes(byte for token in tokens for byte in token.bytes or ()).decode() == choice.message.content
        assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 24


def test_a_prompt_that_came_before_is_not_computed_again(client: OpenAI) -> None:
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count the stars. " * 60}]
    first, again = (client.chat.completions.create(model=MODEL, messages=long, max_tokens=4) for _ in range(2))
    assert first.usage is not None
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens - 1


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"guided_regex": "[0-9]{3}-[0-9]{4}"}, r"\d{3}-\d{4}"),
        ({"guided_choice": ["éa", "èb", "red"]}, "éa|èb|red"),
        ({"grammar": 'root ::= ("ab" | "c")+ "!"'}, "(ab|c)+!"),
        ({"json_schema": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}}, r"\[.*,.*\]"),
    ],
)
def test_other_servers_words_for_a_form(node: Node, form: dict[str, Any], pattern: str) -> None:
    body = {"messages": ASKED, "max_tokens": 60, "seed": 2, **form}
    answer = httpx2.post(f"{node.api}/v1/chat/completions", json=body, timeout=120).json()
    (choice,) = answer["choices"]
    if choice["finish_reason"] == "stop":
        assert re.fullmatch(pattern, choice["message"]["content"], re.DOTALL)
    else:
        assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"json_schema": {"type": "string", "not": {"const": "a"}}}, "not"),
        ({"json_schema": {"$ref": "http://example.org/x.json"}}, "$ref"),
        ({"json_schema": {"type": "colour"}}, "type"),
        ({"guided_regex": "(?=a)b"}, "lookahead"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"guided_regex": "((a{1000}){1000}){1000}"}, ""),
    ],
)
def test_a_form_that_cannot_be_held_is_the_callers_error_and_soon(
    node: Node, fields: dict[str, Any], word: str
) -> None:
    began = monotonic()
    answer = httpx2.post(f"{node.api}/v1/chat/completions", json={"messages": ASKED, **fields}, timeout=120)
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert monotonic() - began < 20
    assert httpx2.post(f"{node.api}/v1/chat/completions", json={"messages": ASKED, "max_tokens": 1}).is_success


def test_a_field_the_model_has_no_token_for_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.chat.completions.create(model=MODEL, messages=ASKED, logit_bias={"999999": 1})
