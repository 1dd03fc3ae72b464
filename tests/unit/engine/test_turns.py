"""A conversation reaches a template in the form that template takes."""

from __future__ import annotations

import pytest

from meshnode.domain import ImagePart, Message, ReasoningPart, RefusalPart, Role, TextPart, Tool, ToolCall
from meshnode.engine.turns import Takes, begun, joined, marked, text_of, tool_list, turns
from meshnode.errors import InvalidField


def say(role: str, *texts: str) -> Message:
    """A message of text parts."""
    return Message(role=Role(role), parts=tuple(TextPart(text) for text in texts))


CALL = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="c1", name="f", arguments='{"a": [1]}'),))


def test_one_text_is_a_string_and_several_are_joined() -> None:
    assert turns([say("user", "a"), say("user", "a", "", "b"), say("user")], Takes()) == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "a\n\nb"},
        {"role": "user", "content": ""},
    ]


def test_parts_go_as_parts_where_the_template_takes_them() -> None:
    listed = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    both, only_parts = Takes(parts=True), Takes(text=False, parts=True)
    assert turns([say("user", "a", "b")], both) == [{"role": "user", "content": listed}]
    assert turns([say("user", "a")], both) == [{"role": "user", "content": "a"}]
    assert turns([say("user", "a")], only_parts) == [{"role": "user", "content": listed[:1]}]
    assert turns([say("user")], only_parts) == [{"role": "user", "content": [{"type": "text", "text": ""}]}]


def test_a_system_message_a_template_refuses_goes_before_the_first_turn() -> None:
    takes = Takes(system=False)
    assert turns([say("developer", "s"), say("user", "u")], takes) == [{"role": "user", "content": "s\nu"}]
    assert turns([say("system", "s")], takes) == []
    kept = turns([say("user", "u"), say("system", "s")], takes)
    assert [turn["role"] for turn in kept] == ["user", "system"]


def test_developer_is_system_except_where_it_is_known() -> None:
    assert turns([say("developer", "d")], Takes())[0]["role"] == "system"
    assert turns([say("developer", "d")], Takes(developer=True))[0]["role"] == "developer"


def test_tool_calls_have_arguments_as_the_template_reads_them() -> None:
    as_text = {"type": "function", "function": {"name": "f", "arguments": '{"a": [1]}'}, "id": "c1"}
    assert turns([CALL], Takes()) == [{"role": "assistant", "content": "", "tool_calls": [as_text]}]
    (turn,) = turns([CALL], Takes(argument_objects=True))
    assert turn["tool_calls"][0]["function"]["arguments"] == {"a": [1]}


def test_arguments_that_are_not_json_are_named() -> None:
    broken = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="c1", name="f", arguments="{"),))
    with pytest.raises(InvalidField, match=r"arguments is not JSON"):
        turns([broken], Takes(argument_objects=True))


def test_reasoning_and_names_travel_beside_the_content() -> None:
    message = Message(
        role=Role.ASSISTANT,
        parts=(ReasoningPart("hm"), TextPart("a"), RefusalPart("no")),
        name="ann",
    )
    assert turns([message], Takes()) == [
        {"role": "assistant", "content": "a\nno", "reasoning_content": "hm", "name": "ann"}
    ]
    result = Message(role=Role.TOOL, parts=(TextPart("42"),), tool_call_id="c1")
    assert turns([result], Takes()) == [{"role": "tool", "content": "42", "tool_call_id": "c1"}]


def test_a_part_no_template_takes_is_named_but_not_quoted() -> None:
    picture = Message(role=Role.USER, parts=(ImagePart("data:secret"),))
    with pytest.raises(InvalidField, match=r"messages\[1\]\.content has a part of kind image") as caught:
        turns([say("user", "a"), picture], Takes())
    assert caught.value.param == "messages[1].content"
    assert "secret" not in str(caught.value)


def test_tools_are_listed_in_openais_words() -> None:
    tool = Tool(name="f", description="d", parameters='{"type": "object"}')
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert tool_list([tool]) == [{"type": "function", "function": function}]
    with pytest.raises(InvalidField, match=r"tools\[0\]\.function\.parameters"):
        tool_list([Tool(name="f", parameters="[" * 100_000)])


def test_text_to_continue_keeps_its_paragraphs() -> None:
    assert text_of(say("assistant", "a", "b")) == "a\n\nb"
    assert joined(["", "a"]) == "a"


# --- thoughts, answers to go on with ------------------------------------------------------------


def test_thoughts_in_the_forms_of_families() -> None:
    thinking = Message(role=Role.ASSISTANT, parts=(ReasoningPart("hm"), TextPart("a")))
    assert turns([thinking], Takes(thinking_field=True))[0]["thinking"] == "hm"
    (turn,) = turns([thinking], Takes(thinking_blocks=True))
    assert turn["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
    assert "reasoning_content" not in turn
    assert turns([say("user", " a\n")], Takes(trimmed=True))[0]["content"] == "a"


def test_marks_stand_after_each_text_and_after_the_last_turn() -> None:
    spoken = turns([say("user", "a"), say("assistant"), say("user", "b", "c"), say("user", "")], Takes(parts=True))
    contents = [turn["content"] for turn in marked(spoken, "!")]
    assert contents == ["a!", "", [{"type": "text", "text": "b"}, {"type": "text", "text": "c!"}], "!"]
    assert marked(spoken, "") == spoken
    assert marked([], "!") == []


def test_an_answer_goes_on_after_its_thought() -> None:
    thought = Message(role=Role.ASSISTANT, parts=(ReasoningPart("hm"),))
    answer = Message(role=Role.ASSISTANT, parts=(ReasoningPart("hm"), TextPart("a")))
    takes = Takes(thinking=True, thought_marks=("<t>", "</t>"), lead="> ")
    assert begun(thought, "A:", takes) == "A:<t>hm"
    assert begun(answer, "A:<t>", takes) == "A:<t>hm</t>a"
    assert begun(say("assistant", "a"), "A:<t>", takes) == "A:<t></t>a"
    assert begun(say("assistant", "a"), "A:", Takes(lead="> ")) == "A:> a"
