"""A model whose template has no words for tools is told of them in plain text, and to call them as is read."""

from __future__ import annotations

import json

import pytest

from meshnode.domain import (
    GenerationRequest,
    Message,
    ModelId,
    RequestId,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from meshnode.engine.replies.families import GENERIC
from meshnode.engine.replies.pieces import CallArguments, CallBegan, coalesced
from meshnode.engine.tool_texts import in_words
from meshnode.engine.turns import Takes, text_of
from meshnode.errors import InvalidField

TOOL = Tool(name="f", description="Does é.", parameters='{"type": "object"}')
CALLS = Message(
    role=Role.ASSISTANT,
    parts=(TextPart("So:"),),
    tool_calls=(
        ToolCall(id="c1", name="f", arguments='{"a": [1.50]}'),
        ToolCall(id="c2", name="gé", arguments="{}"),
    ),
)
NOTHING = Takes(tools=False, tool_calls=False, results=False)


def say(role: str, *texts: str) -> Message:
    """A message of text parts."""
    return Message(role=Role(role), parts=tuple(TextPart(text) for text in texts))


def returned(call: str, text: str, name: str | None = None) -> Message:
    """A result."""
    return Message(role=Role.TOOL, parts=(TextPart(text),), tool_call_id=call, name=name)


def told(*messages: Message, takes: Takes = NOTHING, tools: tuple[Tool, ...] = (TOOL,), **how: object) -> list[str]:
    """Role and text of each message as the template gets it."""
    request = GenerationRequest(
        id=RequestId("r"),
        model=ModelId("m"),
        messages=messages,
        tools=tools,
        **how,  # type: ignore[arg-type]
    )
    return [f"{message.role.value}: {text_of(message)}" for message in in_words(messages, request, takes)]


def test_tools_are_told_before_what_the_system_message_says() -> None:
    first, second = told(say("user", "q"))
    assert first.startswith("system: You can call these tools")
    assert '\n{"name": "f", "description": "Does é.", "parameters": {"type": "object"}}\n' in first
    assert "several at once" in first
    assert second == "user: q"
    joint, _ = told(say("developer", "Be brief."), say("user", "q"), parallel_tool_calls=False)
    assert joint.startswith("developer: You can")
    assert joint.endswith("\n\nBe brief.")
    assert "one tool at a time" in joint
    assert len(told()) == 1


@pytest.mark.parametrize(
    "how",
    [{"tools": ()}, {"tool_choice": ToolChoice(mode=ToolMode.NONE)}, {"takes": Takes()}],
    ids=["none_offered", "none_may_be_called", "the_template_shows_them"],
)
def test_nothing_is_said_of_tools_where_nothing_need_be(how: dict[str, object]) -> None:
    assert told(say("user", "q"), **how) == ["user: q"]  # type: ignore[arg-type]


def test_a_schema_that_is_not_json_is_named() -> None:
    with pytest.raises(InvalidField, match=r"tools\[0\]\.function\.parameters"):
        told(say("user", "q"), tools=(Tool(name="f", parameters="{"),))


def test_the_example_is_read_as_a_call() -> None:
    (system, _) = told(say("user", "q"), tools=(TOOL, Tool(name="the tool's name", parameters="{}")))
    start = system.index("```json")
    block = system[start : system.index("```", start + 3) + 3]
    offered = Tool(name="the tool's name", parameters="{}")
    parser = GENERIC.parser(tools=(offered,), prompt_tail="", parallel=True, ids=str)
    began, given = coalesced([*parser.feed(block), *parser.finish()])
    assert began == CallBegan(0, "0", "the tool's name")
    assert isinstance(given, CallArguments)
    assert json.loads(given.text) == {"a parameter": "its value"}


def test_calls_stand_where_they_were_made_with_the_arguments_as_they_were() -> None:
    f, g = '{"name": "f", "arguments": {"a": [1.50]}}', '{"name": "gé", "arguments": {}}'
    blocks = f"assistant: So:\n\n```json\n{f}\n```\n\n```json\n{g}\n```"
    assert told(CALLS, tools=()) == [blocks]
    assert told(CALLS, tools=(), takes=Takes(tools=False)) == ["assistant: So:"]


def test_results_are_what_the_user_says_with_what_follows_in_one_turn() -> None:
    results = [returned("c2", "two"), returned("c1", "one"), returned("c9", "?"), returned("c9", "!", "h")]
    *_, spoken = told(CALLS, *results, say("user", "go on"), tools=())
    parts = ["The tool gé returned:\ntwo", "The tool f returned:\none", "The tool returned:\n?"]
    assert spoken == "user: " + "\n\n".join([*parts, "The tool h returned:\n!", "go on"])


def test_turns_that_are_not_results_stay_apart() -> None:
    between = [say("user", "a"), say("user", "b"), CALLS, returned("c1", "1"), say("assistant", "x"), say("user", "y")]
    roles = [text.partition(":")[0] for text in told(*between, tools=())]
    assert roles == ["user", "user", "assistant", "user", "assistant", "user"]


def test_results_stay_where_the_template_shows_them() -> None:
    assert told(CALLS, returned("c1", "1"), tools=(), takes=Takes())[-1] == "tool: 1"
