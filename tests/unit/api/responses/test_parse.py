"""A Responses request as the domain's."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api.responses.parse import parse_count, parse_response
from meshnode.api.responses.schema import REFUSALS, ResponseFields
from meshnode.api.schema import Ask, Asker, Keep, TemplateUse
from meshnode.domain import (
    OWNER,
    Constraint,
    ConstraintKind,
    Kind,
    Message,
    RequestId,
    Role,
    TextPart,
    ToolChoice,
    ToolMode,
)
from meshnode.errors import InvalidField, MeshnodeError, RequestError, UnknownField, UnsupportedParameter

ASKER = Asker(RequestId("r1"), OWNER)
FUNCTION: dict[str, Any] = {"type": "function", "name": "f", "parameters": {}}


def parsed(**fields: Any) -> Ask:
    return parse_response(json.dumps({"input": "hi", **fields}).encode(), ASKER)


def test_a_string_is_what_the_user_says_and_instructions_come_first() -> None:
    asked = parsed(instructions="Be kind.", model="tiny", stream=True)
    assert asked.request.messages == (
        Message(role=Role.SYSTEM, parts=(TextPart("Be kind."),)),
        Message(role=Role.USER, parts=(TextPart("hi"),)),
    )
    assert (asked.model, asked.stream) == ("tiny", True)


def test_an_answer_is_kept_unless_the_request_says_no() -> None:
    assert parsed().keep == Keep(store=True)
    assert parsed(store=False).keep == Keep()
    assert parsed(background=True).keep == Keep(store=True, background=True)
    with pytest.raises(InvalidField, match="background needs store"):
        parsed(background=True, store=False)


def test_what_steers_sampling_and_stopping() -> None:
    request = parsed(max_output_tokens=7, temperature=0, top_p=0.5, seed=3, stop="x", top_k=5).request
    assert (request.stopping.max_tokens, request.stopping.stop) == (7, ("x",))
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.top_k) == (0, 0.5, 3, 5)


def test_reasoning_tools_and_form() -> None:
    request = parsed(reasoning={"effort": "low", "summary": "auto"}, tools=[FUNCTION], tool_choice="required").request
    assert request.reasoning_effort == "low"
    assert request.tool_choice == ToolChoice(mode=ToolMode.REQUIRED)
    assert parsed(tools=[FUNCTION], parallel_tool_calls=False).request.parallel_tool_calls is False
    held = parsed(text={"format": {"type": "json_object"}}).request.constraint
    assert held == Constraint(kind=ConstraintKind.JSON_OBJECT)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 4}, 4),
        ({"top_logprobs": 2}, 2),
        ({"include": ["reasoning.encrypted_content"]}, None),
    ],
)
def test_logprobs_are_told_where_they_are_asked_for(fields: dict[str, Any], expected: int | None) -> None:
    assert parsed(**fields).request.top_logprobs == expected


def test_a_stored_prompt() -> None:
    variables = {"name": "Ann", "mood": {"type": "input_text", "text": "glad"}}
    asked = parsed(input=None, prompt={"id": "p1", "version": "3", "variables": variables})
    assert asked.keep.template == TemplateUse("p1", 3, {"name": "Ann", "mood": "glad"})
    assert parsed(prompt={"id": "p1"}).keep.template == TemplateUse("p1", None, {})
    ours = parsed(input=None, template="p1@3", variables={"name": "Ann"})
    assert ours.keep.template == TemplateUse("p1", 3, {"name": "Ann"})


def test_what_is_too_long_is_left_out_only_where_that_is_asked_for() -> None:
    assert parsed().request.transforms == parsed(truncation="disabled").request.transforms == ()
    for fields in ({"truncation": "auto"}, {"transforms": ["middle-out"]}, {"truncation": "auto", "plugins": []}):
        asked = parsed(**fields)
        assert asked.request.transforms == ("middle-out",)
        assert asked.echo["response"]["truncation"] == "auto"


def test_async_mode_is_our_name_for_the_background() -> None:
    asked = parsed(async_mode=True)
    assert asked.keep == Keep(store=True, background=True)
    assert asked.echo["response"]["background"] is True


def test_what_the_answer_repeats() -> None:
    echo = parsed(metadata={"a": "b"}, tools=[FUNCTION], instructions="Be kind.", top_p=0.5).echo
    response = echo["response"]
    assert response["metadata"] == {"a": "b"}
    assert response["tools"] == [FUNCTION | {"description": None, "strict": False}]
    assert (response["instructions"], response["top_p"], response["store"]) == ("Be kind.", 0.5, True)
    assert echo["input"][0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert echo["asked_to_store"] is None
    json.dumps(echo)


def test_what_codex_sends_is_taken() -> None:
    asked = parsed(
        instructions="You are a coding agent.",
        input=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ],
        tools=[
            FUNCTION | {"strict": False, "description": "d"},
            {"type": "namespace", "name": "mcp__x", "description": "x", "tools": [FUNCTION]},
            {"type": "web_search", "external_web_access": False},
            {"type": "custom", "name": "apply_patch", "description": "Edit files."},
        ],
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning={"effort": "medium", "summary": "auto"},
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="0198-abc",
        client_metadata={"x-codex-installation-id": "1"},
        text={"verbosity": "low"},
        service_tier="auto",
    )
    assert [tool.name for tool in asked.request.tools] == ["f", "mcp__x__f", "apply_patch"]
    assert [message.role for message in asked.request.messages] == [Role.SYSTEM, Role.DEVELOPER, Role.USER]
    assert asked.echo["encrypted"] is True


def test_a_reference_waits_for_what_is_kept() -> None:
    for item in ({"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}):
        asked = parsed(input=[item], instructions="Be kind.")
        assert [message.role for message in asked.request.messages] == [Role.SYSTEM]
        assert asked.echo["input"] == [{"type": "item_reference", "id": "msg_1"}]


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"input": None}, InvalidField, "input"),
        ({"input": []}, InvalidField, "input"),
        ({"input": 7}, InvalidField, "input"),
        ({"input": ["hi"]}, InvalidField, "input[0]"),
        ({"inputs": "hi"}, UnknownField, "inputs"),
        ({"max_tokens": 5}, UnknownField, "max_tokens"),
        ({"n": 2}, UnknownField, "n"),
        ({"messages": []}, UnknownField, "messages"),
        ({"conversation": "conv_1"}, UnsupportedParameter, "conversation"),
        ({"moderation": {"model": "m"}}, UnsupportedParameter, "moderation"),
        ({"max_output_tokens": 0}, InvalidField, "max_output_tokens"),
        ({"temperature": 2.5}, InvalidField, "temperature"),
        ({"metadata": {"a": 1}}, InvalidField, "metadata"),
        ({"metadata": {str(number): "x" for number in range(17)}}, InvalidField, "metadata"),
        ({"include": ["everything"]}, InvalidField, "include[0]"),
        ({"reasoning": {"effort": "vast"}}, InvalidField, "reasoning.effort"),
        ({"reasoning": {"efort": "low"}}, UnknownField, "reasoning.efort"),
        ({"prompt": {"id": "p", "version": "new"}}, InvalidField, "prompt.version"),
        ({"prompt": {"id": "p", "variables": {"a": 3}}}, InvalidField, "prompt.variables"),
        ({"prompt": {}}, InvalidField, "prompt.id"),
        ({"prompt": {"id": "p"}, "template": "p"}, InvalidField, "template"),
        ({"template": "a b"}, InvalidField, "template"),
        ({"stream_options": {"x": 1}}, UnknownField, "stream_options.x"),
        ({"grammar": "root ::= x", "text": {"format": {"type": "json_object"}}}, InvalidField, "text.format"),
        ({"instructions": ["x"]}, InvalidField, "instructions"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], kind: type[MeshnodeError], param: str) -> None:
    with pytest.raises(kind) as caught:
        parsed(**fields)
    assert caught.value.param == param


def test_errors_quote_nothing_that_somebody_wrote() -> None:
    for fields in ({"input": [{"role": "user", "content": {"a": "secret"}}]}, {"client_metadata": "secret"}):
        with pytest.raises(InvalidField) as caught:
            parsed(**fields)
        assert "secret" not in str(caught.value)


def test_counting_asks_for_the_prompt_alone() -> None:
    body = {"input": "hi", "instructions": "Be kind.", "tools": [FUNCTION], "personality": "friendly", "stream": True}
    asked = parse_count(json.dumps(body).encode(), ASKER)
    assert asked.request.kind is Kind.COUNT
    assert len(asked.request.messages) == 2
    assert len(asked.request.tools) == 1
    assert (asked.stream, asked.keep) == (False, Keep())


NAMES = sorted({*ResponseFields.__struct_encode_fields__, *REFUSALS, "conversation"})
leaves = st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=4)
words = st.sampled_from(
    ["type", "role", "content", "text", "name", "id", "user", "message", "function", "function_call", "input_text",
     "reasoning", "call_id", "output", "arguments", "tools", "namespace", "custom", "format", "json_schema", "schema",
     "assistant", "allowed_tools", "mode", "auto", "item_reference", "summary"]
)  # fmt: skip
values = st.recursive(
    leaves | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(NAMES), values, max_size=5), values)
def test_whatever_comes_is_read_or_refused_by_name(fields: dict[str, Any], said: Any) -> None:
    body = json.dumps({**fields, "input": said}).encode()
    with suppress(RequestError):
        json.dumps(parse_response(body, ASKER).echo)


def test_a_form_of_the_text_and_tools_go_together() -> None:
    request = parsed(tools=[FUNCTION], grammar="root ::= x").request
    assert request.constraint is not None
    assert request.tools
