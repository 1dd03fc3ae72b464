"""Python's literals become JSON's."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import Tool
from meshnode.engine.replies.families import LFM2, LLAMA3
from tests.kit.replies import arguments, fed, offered, plain, read

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(alphabet="ab'\"\\\n\té☃😀", max_size=6) | st.just(-1.5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab'", max_size=2), inner, max_size=3),
    max_leaves=8,
)


def value_of(literal: str) -> Any:
    """What a literal is as the value of an argument."""
    pieces = read(LFM2, f"<|tool_call_start|>[note(title={literal})]<|tool_call_end|>")
    return json.loads(arguments(pieces)[0])["title"]


@given(LITERALS)
def test_a_value_is_what_python_says_it_is(value: Any) -> None:
    assert value_of(repr(value)) == ast.literal_eval(repr(value))
    assert value_of(json.dumps(value)) == value


@pytest.mark.parametrize(
    "literal", ["'\\x41'", '"\\u00e9\\U0001F600"', "(1, 2,)", "[ ]", "{ }", '"tab\\t"', "''", "[[], ()]"]
)
def test_pythons_own_ways(literal: str) -> None:
    value = ast.literal_eval(literal)
    assert value_of(literal) == (json.loads(json.dumps(value)))


def test_an_escape_that_is_none_stays() -> None:
    assert value_of("'\\d+\\x4'") == "\\d+\\x4"


@pytest.mark.parametrize("wrong", ["name", "f()", "1 + 1", "[1 2]", "{1: 2}", "b'x'", "*a", "-"])
def test_what_is_no_literal_ends_the_call(wrong: str) -> None:
    pieces = plain(read(LFM2, f"<|tool_call_start|>[note(title={wrong})]<|tool_call_end|>"))
    assert pieces[0] == ["call", "call_0", "note"]
    assert pieces[1][1].startswith('{"title": ')
    assert pieces[2][0] == "said"


def test_a_positional_argument_is_none() -> None:
    pieces = plain(read(LFM2, "<|tool_call_start|>[note('x')]<|tool_call_end|>"))
    assert pieces[-1][0] == "said"


def test_code_goes_to_the_tool_that_runs_it() -> None:
    python = Tool(name="python", parameters='{"type": "object", "properties": {"source": {"type": "string"}}}')
    for texts in (['<|python_tag|>print("a")\nx = 1'], list('<|python_tag|>print("a")\nx = 1')):
        pieces = plain(fed(LLAMA3.parser(tools=[*offered(), python]), texts))
        assert pieces[0] == ["call", "call_0", "python"]
        assert json.loads(pieces[1][1]) == {"source": 'print("a")\nx = 1'}
