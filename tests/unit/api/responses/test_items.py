"""Items as messages."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.responses.items import messages
from meshnode.api.responses.thought import sealed
from meshnode.domain import Message, ReasoningPart, RefusalPart, Role, TextPart, ToolCall
from meshnode.errors import InvalidField, MeshnodeError, UnknownField, UnsupportedParameter

CALL: dict[str, Any] = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
RESULT: dict[str, Any] = {"type": "function_call_output", "call_id": "c1", "output": "7"}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [part]}


def test_an_easy_message_and_one_of_parts() -> None:
    found = messages(
        [
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        ]
    )
    assert found == (
        Message(role=Role.DEVELOPER, parts=(TextPart("Be kind."),)),
        Message(role=Role.USER, parts=(TextPart("hi"),)),
    )


def test_what_an_assistant_does_in_a_turn_is_one_message() -> None:
    (turn, result) = messages([thought("hm"), said("I look."), CALL, CALL | {"call_id": "c2"}, RESULT])
    assert turn.parts == (ReasoningPart("hm"), TextPart("I look."))
    assert [call.id for call in turn.tool_calls] == ["c1", "c2"]
    assert result == Message(role=Role.TOOL, parts=(TextPart("7"),), tool_call_id="c1")


def test_a_turn_ends_where_an_assistant_speaks_or_thinks_again() -> None:
    found = messages([said("one"), said("two"), CALL, thought("hm"), CALL])
    assert [(len(one.parts), len(one.tool_calls)) for one in found] == [(1, 0), (1, 1), (1, 1)]


def test_a_thought_comes_back_from_its_sealed_form() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed("hm")}
    (message,) = messages([item, said("so")])
    assert message.parts[0] == ReasoningPart("hm")


def test_a_thought_that_another_service_sealed_is_left_out() -> None:
    assert messages([{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}]) == ()


def test_calls_of_namespaces_and_custom_tools_are_what_the_model_made() -> None:
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": 'a "b"', "namespace": "files"}
    (turn, _) = messages([CALL | {"namespace": "files"}, custom, RESULT | {"type": "custom_tool_call_output"}])
    assert turn.tool_calls == (
        ToolCall(id="c1", name="files__f", arguments="{}"),
        ToolCall(id="c2", name="files__patch", arguments='{"input": "a \\"b\\""}'),
    )


def test_a_refusal_and_an_empty_answer_are_sent_back() -> None:
    refusal = said("") | {"content": [{"type": "refusal", "refusal": "No."}]}
    found = messages([refusal, said("") | {"content": []}])
    assert [one.parts for one in found] == [(RefusalPart("No."),), (TextPart(""),)]


def test_a_result_of_parts() -> None:
    (result,) = messages([RESULT | {"output": [{"type": "input_text", "text": "7"}]}])
    assert result.parts == (TextPart("7"),)


@pytest.mark.parametrize(
    ("item", "kind", "param"),
    [
        ({"type": "web_search_call", "id": "x"}, UnsupportedParameter, "input[0].type"),
        ({"type": "poem"}, InvalidField, "input[0].type"),
        ({}, InvalidField, "input[0].type"),
        ({"role": "tool", "content": "x"}, InvalidField, "input[0].role"),
        ({"role": "user"}, InvalidField, "input[0].content"),
        ({"role": "user", "content": []}, InvalidField, "input[0].content"),
        ({"role": "user", "content": "x", "nam": "y"}, UnknownField, "input[0].nam"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, InvalidField, "input[0].content[0].type"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
            UnsupportedParameter,
            "input[0].content[0].input_image",
        ),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, InvalidField, "input[0].content[0].type"),
        ({"type": "function_call_output", "output": "x"}, InvalidField, "input[0].call_id"),
        (CALL | {"name": "a b"}, InvalidField, "input[0].name"),
        ({"type": "item_reference", "id": "msg_9"}, InvalidField, "input[0].id"),
    ],
)
def test_what_cannot_be_read_is_named(item: dict[str, Any], kind: type[MeshnodeError], param: str) -> None:
    with pytest.raises(kind) as caught:
        messages([item])
    assert caught.value.param == param
