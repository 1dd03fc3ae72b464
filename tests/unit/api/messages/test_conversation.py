"""Anthropic's turns become the domain's messages."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.messages.conversation import FAILED, conversation
from meshnode.domain import Message, ReasoningPart, Role, TextPart, ToolCall
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter

NONCE = "x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def message(role: str, *texts: str, **fields: Any) -> Message:
    return Message(role=Role(role), parts=tuple(map(TextPart, texts)), **fields)


def test_strings_and_blocks_are_the_same() -> None:
    told = [message("system", "s"), message("user", "u")]
    assert conversation("s", [{"role": "user", "content": "u"}]) == tuple(told)
    assert conversation([text("s")], [{"role": "user", "content": [text("u")]}]) == tuple(told)
    assert conversation(None, [{"role": "user", "content": "u"}]) == (told[1],)


@pytest.mark.parametrize("system", [NONCE, NONCE + "\n", [text(NONCE)], "", []])
def test_a_system_prompt_of_nothing_is_none(system: Any) -> None:
    assert conversation(system, [{"role": "user", "content": "u"}]) == (message("user", "u"),)


def test_what_changes_with_every_request_is_taken_out_of_the_system_prompt_and_of_nothing_else() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": NONCE},
        {"role": "system", "content": f"{NONCE}\n\nlate {NONCE}"},
    ]
    first = conversation([text(NONCE), text(f"{NONCE}\nYou are.")], turns)
    again = conversation([text(NONCE.replace("36ee5", "0aaa9")), text("You are.")], turns)
    assert first == again
    assert first == (message("system", "You are."), message("user", NONCE), message("system", f"late {NONCE}"))


def test_turns_of_one_role_are_one() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [text("b")]},
        {"role": "assistant", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    assert conversation(None, turns) == (message("user", "a", "b"), message("assistant", "c", "d"))


def test_a_round_of_tools() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {"é": [1]}, "caller": {"type": "direct"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "42", "cache_control": {"type": "ephemeral"}}
    failed = {"type": "tool_result", "tool_use_id": "t2", "content": [text("no"), text("!")], "is_error": True}
    empty = {"type": "tool_result", "tool_use_id": "t3"}
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "content": [thought, text("let me"), call, call | {"id": "t2"}, call | {"id": "t3"}]},
        {"role": "user", "content": [result, failed, empty, text("go on"), text("please")]},
    ]
    calls = tuple(ToolCall(id=id_, name="f", arguments='{"é": [1]}') for id_ in ("t1", "t2", "t3"))
    assert conversation(None, turns) == (
        Message(role=Role.ASSISTANT, parts=(ReasoningPart("hm", "s"), TextPart("let me")), tool_calls=calls),
        message("tool", "42", tool_call_id="t1"),
        message("tool", FAILED, "no", "!", tool_call_id="t2"),
        message("tool", "", tool_call_id="t3"),
        message("user", "go on", "please"),
    )


def test_what_follows_calls_is_another_turn() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": [call]}, {"role": "assistant", "content": "x"}]
    assert [len(each.tool_calls) for each in conversation(None, turns)] == [1, 0]


def test_an_assistants_turn_of_nothing_is_none() -> None:
    sealed = {"type": "redacted_thinking", "data": "d"}
    turns: list[dict[str, Any]] = [{"role": "user", "content": "u"}, {"role": "assistant", "content": [sealed]}]
    assert conversation(None, turns) == (message("user", "u"),)


@pytest.mark.parametrize(
    ("turn", "error", "param"),
    [
        ({"content": "x"}, InvalidField, "messages[0].role"),
        ({"role": "tool", "content": "x"}, InvalidField, "messages[0].role"),
        ({"role": "user"}, InvalidField, "messages[0].content"),
        ({"role": "user", "content": None}, InvalidField, "messages[0].content"),
        ({"role": "user", "content": []}, InvalidField, "messages[0].content"),
        ({"role": "user", "content": "x", "id": "1"}, UnknownField, "messages[0].id"),
        ({"role": "user", "content": [{"type": "thinking"}]}, InvalidField, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "image"}]}, UnsupportedParameter, "messages[0].content[0].image"),
        ({"role": "assistant", "content": [{"type": "tool_result"}]}, InvalidField, "messages[0].content[0].type"),
        ({"role": "system", "content": [{"type": "document"}]}, InvalidField, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]},
         UnsupportedParameter, "messages[0].content[0].content[0].image"),
        ({"role": "user", "content": [{"type": "tool_result", "content": "x"}]}, InvalidField,
         "messages[0].content[0].tool_use_id"),
        ({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": "x"}]}, InvalidField,
         "messages[0].content[0].input"),
    ],
)  # fmt: skip
def test_errors_name_the_place(turn: dict[str, Any], error: type[RequestError], param: str) -> None:
    with pytest.raises(error) as caught:
        conversation(None, [turn])
    assert caught.value.param == param


def test_errors_quote_nothing_that_was_said() -> None:
    for content in ([{"type": "text", "text": "a", "secret words": 1}], [{"type": "text", "text": ["secret words"]}]):
        with pytest.raises(RequestError) as caught:
            conversation(None, [{"role": "user", "content": content}])
        assert "secret" not in str(caught.value).replace("[0].secret words", "")
