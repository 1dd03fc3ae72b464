"""Tools and the choice among them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.api.responses.tooling import Offer, choice, flat, offer
from meshnode.domain import ToolChoice, ToolMode
from meshnode.errors import InvalidField, MeshnodeError, UnknownField, UnsupportedParameter

READ: dict[str, Any] = {"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": True}
PATCH: dict[str, Any] = {"type": "custom", "name": "patch", "description": "Change files."}
FILES: dict[str, Any] = {"type": "namespace", "name": "files", "description": "Files.", "tools": [READ, PATCH]}


def test_a_function_is_offered_and_repeated_as_it_is() -> None:
    found = offer([READ])
    assert [(tool.name, tool.parameters, tool.strict) for tool in found.tools] == [("read", '{"type": "object"}', True)]
    assert found.shown == ({**READ, "description": None},)
    assert found.telling() == {}


def test_tools_of_a_namespace_get_flat_names_and_their_calls_are_told_apart() -> None:
    found = offer([FILES])
    assert [tool.name for tool in found.tools] == ["files__read", "files__patch"]
    assert found.tools[0].description == "files: Files."
    assert found.telling() == {
        "files__read": {"type": "function", "name": "read", "namespace": "files"},
        "files__patch": {"type": "custom", "name": "patch", "namespace": "files"},
    }
    assert found.shown[0]["tools"][0]["name"] == "read"


def test_a_custom_tool_is_a_function_of_one_string_and_its_grammar_is_told() -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}
    (tool,) = offer([PATCH | {"format": form}]).tools
    assert json.loads(tool.parameters)["required"] == ["input"]
    assert "lark grammar:\nstart: /x/" in tool.description


def test_tools_that_only_openai_runs_are_left_out() -> None:
    found = offer([{"type": "web_search"}, READ, {"type": "mcp", "server_label": "x"}])
    assert [tool.name for tool in found.tools] == ["read"]
    assert len(found.shown) == 1
    assert found.left_out == ("web_search", "mcp")


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ([READ, READ], "tools"),
        ([{"type": "function", "name": "a b"}], "tools[0].name"),
        ([{"type": 3}], "tools[0].type"),
        ([{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}], "tools[0].tools[0].type"),
        ([PATCH | {"format": {"type": "grammar", "syntax": "lark"}}], "tools[0].format.definition"),
        (
            [
                {"type": "namespace", "name": f"n{space}", "tools": [READ | {"name": f"f{n}"} for n in range(100)]}
                for space in range(2)
            ],
            "tools",
        ),
        ([READ | {"parameters": {"x": "y" * (1 << 20)}}], "tools[0].parameters"),
    ],
)
def test_wrong_tools_are_named(raw: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        offer(raw)
    assert caught.value.param == param


def test_an_unknown_field_of_a_tool_is_named() -> None:
    with pytest.raises(UnknownField, match=r"tools\[0\].parameter "):
        offer([{"type": "function", "name": "f", "parameter": {}}])


def test_flat_names_are_short_and_differ() -> None:
    assert flat("read", None) == "read"
    assert flat("read", "mcp__files__") == "mcp__files__read"
    long = flat("a" * 60, "n" * 60)
    assert len(long) == 64
    assert long != flat("b" * 60, "n" * 60)


ALLOWED = {"type": "allowed_tools", "mode": "auto"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, ToolChoice()),
        ("none", ToolChoice(mode=ToolMode.NONE)),
        ("required", ToolChoice(mode=ToolMode.REQUIRED)),
        ({"type": "function", "name": "read"}, ToolChoice(mode=ToolMode.REQUIRED, names=("files__read",))),
        (
            {"type": "custom", "name": "patch", "namespace": "files"},
            ToolChoice(mode=ToolMode.REQUIRED, names=("files__patch",)),
        ),
        (
            ALLOWED | {"tools": [{"type": "web_search"}, {"type": "function", "name": "read"}]},
            ToolChoice(names=("files__read",)),
        ),
    ],
)
def test_every_way_to_choose(raw: object, expected: ToolChoice) -> None:
    assert choice(raw, offer([FILES])) == expected


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("sometimes", InvalidField),
        (7, InvalidField),
        ({"type": "function", "name": "gone"}, InvalidField),
        ({"type": "web_search_preview"}, UnsupportedParameter),
        ({"type": "mcp", "server_label": "x"}, UnsupportedParameter),
        ({"name": "read"}, InvalidField),
        (ALLOWED | {"tools": [{"type": "web_search"}]}, UnsupportedParameter),
        (ALLOWED | {"tools": []}, InvalidField),
    ],
)
def test_what_cannot_be_chosen_is_refused(raw: object, kind: type[MeshnodeError]) -> None:
    with pytest.raises(kind, match="tool_choice"):
        choice(raw, offer([FILES]))


def test_a_name_in_two_namespaces_must_say_which() -> None:
    offered = offer([FILES, FILES | {"name": "disk"}])
    with pytest.raises(InvalidField, match="several namespaces"):
        choice({"type": "function", "name": "read"}, offered)


def test_a_call_cannot_be_asked_for_where_nothing_is_offered() -> None:
    with pytest.raises(InvalidField, match="no tools"):
        choice("required", Offer())
