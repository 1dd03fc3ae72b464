"""Calls whose parameters stand between tags: what a value is, says the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.domain import Tool, ToolChoice, ToolMode
from meshnode.engine.replies.families import GLM, MINICPM5, QWEN3_CODER
from tests.kit.replies import Bytes, accepts, arguments, fed, plain, read


def value_of(schema: Any, raw: str) -> Any:
    """What ``raw`` is as the value of a parameter of this schema."""
    tool = Tool(name="f", parameters=json.dumps({"type": "object", "properties": {"p": schema}}))
    written = f"<tool_call>\n<function=f>\n<parameter=p>\n{raw}\n</parameter>\n</function>\n</tool_call>"
    return json.loads(arguments(fed(QWEN3_CODER.parser(tools=[tool]), [written]))[0])["p"]


@pytest.mark.parametrize(
    ("schema", "raw", "value"),
    [
        ({"type": "string"}, "12", "12"),
        ({"type": "string"}, '"quoted"', '"quoted"'),
        ({"type": "string"}, " padded ", " padded "),
        ({"type": "string"}, "a\n\nb\n", "a\n\nb\n"),
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, "-14", -14),
        ({"type": "integer"}, "1.5", "1.5"),
        ({"type": "number"}, "3", 3),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "False", False),
        ({"type": ["integer", "null"]}, "None", None),
        ({"type": ["string", "null"]}, "null", None),
        ({"type": ["string", "null"]}, "5", "5"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7", 7),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "7 x", "7 x"),
        ({"type": "object"}, '{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ({"type": "array"}, "[1, 2", "[1, 2"),
        ({"enum": ["a", "b"]}, "a", "a"),
        ({}, "[1]", [1]),
        ({}, "just text", "just text"),
        ({}, "", ""),
    ],
)
def test_a_value_is_what_its_schema_makes_of_it(schema: Any, raw: str, value: Any) -> None:
    assert value_of(schema, raw) == value


def test_a_closing_mark_that_is_missing_leaves_the_call_open() -> None:
    pieces = plain(read(QWEN3_CODER, "<tool_call>\n<function=weather>\n<parameter=city>\nLyon\n</parameter>\nthen"))
    assert pieces == [["call", "call_0", "weather"], ["arguments", '{"city": "Lyon"'], ["said", "then"]]


def test_a_name_that_was_not_offered_is_text() -> None:
    for family, raw in (
        (QWEN3_CODER, "<tool_call>\n<function=storm>\n</function>\n</tool_call>"),
        (GLM, "<tool_call>storm\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"),
        (MINICPM5, '<function name="storm"></function>'),
    ):
        assert plain(read(family, raw)) == [["said", raw]]


def test_optional_parameters_may_be_left_out_and_enumerated_ones_are_held_to_their_values() -> None:
    schema = {
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"enum": ["x", "y"]}},
        "required": ["a"],
    }
    tool = Tool(name="f", parameters=json.dumps(schema), strict=True)
    grammar = QWEN3_CODER.forced([tool], ToolChoice(mode=ToolMode.REQUIRED)) or ""

    def call(*pairs: tuple[str, str]) -> str:
        parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in pairs)
        return f"<tool_call>\n<function=f>\n{parameters}</function>\n</tool_call>"

    for pairs in ([("a", "1")], [("a", "1"), ("b", "two\nlines")], [("a", "-5"), ("c", "y")]):
        assert accepts(grammar, call(*pairs), Bytes()), pairs
    for pairs in ([], [("a", "one")], [("b", "x")], [("a", "1"), ("c", "z")], [("a", "1"), ("d", "1")]):
        assert not accepts(grammar, call(*pairs), Bytes()), pairs
