"""Tools on offer, and how far a model may choose among them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.api.messages.tools import MOST_SCHEMA, choice, offer
from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.errors import InvalidField, RequestError, UnknownField

TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object"}}
OFFERED = (Tool(name="f"), Tool(name="g"))


def test_a_tool_of_the_clients_own() -> None:
    full = TOOL | {
        "type": "custom", "description": "Does it.", "strict": True, "cache_control": {"type": "ephemeral"},
        "input_examples": [{"a": "é"}], "defer_loading": True, "eager_input_streaming": True,
        "allowed_callers": ["direct", "code_execution_20250825"],
    }  # fmt: skip
    tool = Tool(name="f", description='Does it.\nExample: {"a": "é"}', parameters='{"type": "object"}', strict=True)
    assert offer([full]) == ((tool,), ())
    assert offer([TOOL]).tools == (Tool(name="f", parameters='{"type": "object"}'),)


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "mcp_toolset", "mcp_server_name": "x"},
        {"type": "of tomorrow", "what": {"ever": 1}},
    ],
)
def test_tools_that_nobody_here_has_are_left_out_with_a_note(foreign: dict[str, Any]) -> None:
    tools, notes = offer([foreign, TOOL])
    assert [tool.name for tool in tools] == ["f"]
    (note,) = notes
    assert note.startswith("tools[0] of type ")


def test_a_tool_that_only_code_may_call_is_left_out_with_a_note() -> None:
    tools, notes = offer([TOOL | {"allowed_callers": ["code_execution_20250825"]}])
    assert tools == ()
    assert notes[0].startswith("tools[0] may not be called")


@pytest.mark.parametrize(
    ("tools", "error", "param"),
    [
        ([{"name": "f"}], InvalidField, "tools[0].input_schema"),
        ([{"input_schema": {}}], InvalidField, "tools[0].name"),
        ([TOOL | {"name": "a b"}], InvalidField, "tools[0].name"),
        ([TOOL | {"parameters": {}}], UnknownField, "tools[0].parameters"),
        ([TOOL | {"type": 3}], InvalidField, "tools[0].type"),
        ([TOOL, TOOL], InvalidField, "tools"),
        ([TOOL | {"input_schema": {"description": "x" * MOST_SCHEMA}}], InvalidField, "tools[0].input_schema"),
    ],
)
def test_errors_name_the_tool(tools: list[dict[str, Any]], error: type[RequestError], param: str) -> None:
    with pytest.raises(error) as caught:
        offer(tools)
    assert caught.value.param == param
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, (ToolChoice(), True)),
        ({"type": "auto"}, (ToolChoice(), True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, (ToolChoice(), False)),
        ({"type": "any", "disable_parallel_tool_use": False}, (ToolChoice(mode=ToolMode.REQUIRED), True)),
        ({"type": "none"}, (ToolChoice(mode=ToolMode.NONE), True)),
        ({"type": "tool", "name": "g"}, (ToolChoice(mode=ToolMode.REQUIRED, names=("g",)), True)),
    ],
)
def test_how_far_the_model_may_choose(raw: dict[str, Any] | None, expected: tuple[ToolChoice, bool]) -> None:
    assert choice(raw, OFFERED) == expected


@pytest.mark.parametrize(
    ("raw", "offered", "param"),
    [
        ({}, OFFERED, "tool_choice.type"),
        ({"type": "required"}, OFFERED, "tool_choice.type"),
        ({"type": "tool"}, OFFERED, "tool_choice.name"),
        ({"type": "tool", "name": "h"}, OFFERED, "tool_choice.name"),
        ({"type": "auto", "name": "f"}, OFFERED, "tool_choice.name"),
        ({"type": "any", "mode": "x"}, OFFERED, "tool_choice.mode"),
        ({"type": "any"}, (), "tool_choice"),
        ({"type": "tool", "name": "f"}, (), "tool_choice"),
    ],
)
def test_a_choice_that_cannot_be(raw: dict[str, Any], offered: tuple[Tool, ...], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        choice(raw, offered)
    assert caught.value.param == param


def test_many_tools_are_read_as_they_came() -> None:
    tools = offer([TOOL | {"name": f"tool-{number}"} for number in range(300)]).tools
    assert [tool.name for tool in tools] == [f"tool-{number}" for number in range(300)]
    assert all(json.loads(tool.parameters) == {"type": "object"} for tool in tools)
