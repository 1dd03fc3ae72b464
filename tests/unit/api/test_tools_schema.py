"""Tools, and who may choose them."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.tools_schema import MAX_PARAMETERS, tool_calls, tool_choice, tools
from meshnode.domain import Tool, ToolCall, ToolChoice, ToolMode
from meshnode.errors import InvalidField, RequestError, UnknownField, UnsupportedParameter

F = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
OFFERED = (Tool(name="f"), Tool(name="g"))


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


def test_a_tool_is_read_whole() -> None:
    assert tools([F]) == (Tool(name="f", description="d", parameters='{"type": "object"}', strict=True),)
    assert tools([named("g")]) == (Tool(name="g"),)


@pytest.mark.parametrize(
    ("raw", "kind", "param"),
    [
        ({"type": "web_search"}, UnsupportedParameter, "tools[0].type"),
        ({"type": "function"}, InvalidField, "tools[0].function"),
        ({"function": {"name": "f"}}, InvalidField, "tools[0].type"),
        ({"type": "function", "function": {}}, InvalidField, "tools[0].function.name"),
        (named("not a name"), InvalidField, "tools[0].function.name"),
        (named("n" * 65), InvalidField, "tools[0].function.name"),
        (
            {"type": "function", "function": {"name": "f", "parameters": []}},
            InvalidField,
            "tools[0].function.parameters",
        ),
        ({"type": "function", "function": {"name": "f", "colour": 1}}, UnknownField, "tools[0].function.colour"),
        (
            {"type": "function", "function": {"name": "f", "parameters": {"d": "x" * MAX_PARAMETERS}}},
            InvalidField,
            "tools[0].function.parameters",
        ),
    ],
)
def test_a_wrong_tool_is_named(raw: dict[str, Any], kind: type[RequestError], param: str) -> None:
    with pytest.raises(kind) as caught:
        tools([raw])
    assert caught.value.param == param


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidField, match="called f"):
        tools([F, F])


@pytest.mark.parametrize(
    ("raw", "choice"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice(mode=ToolMode.NONE)),
        ("required", ToolChoice(mode=ToolMode.REQUIRED)),
        (named("g"), ToolChoice(mode=ToolMode.REQUIRED, names=("g",))),
        (allowed("auto", "f", "f"), ToolChoice(names=("f",))),
        (allowed("required", "f", "g"), ToolChoice(mode=ToolMode.REQUIRED, names=("f", "g"))),
    ],
)
def test_every_way_to_choose(raw: object, choice: ToolChoice) -> None:
    assert tool_choice(raw, OFFERED) == choice


@pytest.mark.parametrize(
    "raw",
    ["any", 5, [], {}, {"type": "function"}, named("h"), allowed("auto", "h"), allowed("never", "f"), allowed("auto")],
)
def test_a_wrong_choice_is_refused(raw: object) -> None:
    with pytest.raises(InvalidField) as caught:
        tool_choice(raw, OFFERED)
    assert (caught.value.param or "").startswith("tool_choice")


def test_a_call_cannot_be_required_of_no_tools() -> None:
    with pytest.raises(InvalidField, match="no tools"):
        tool_choice("required", ())
    assert tool_choice("auto", ()) == ToolChoice()


def test_calls_of_a_message() -> None:
    raw = {"id": "c", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{"}}
    assert tool_calls([raw], "p") == (ToolCall(id="c", name="f", arguments="{"),)
    with pytest.raises(InvalidField) as caught:
        tool_calls([{"id": "c", "function": {"name": "f"}}], "p")
    assert caught.value.param == "p[0].function.arguments"
