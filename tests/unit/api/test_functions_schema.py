"""Deprecated functions in the words that took their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.functions_schema import as_tool_choice, as_tool_messages, as_tools

CALL = {"name": "f", "arguments": "{}"}


def test_functions_are_tools() -> None:
    assert as_tools([{"name": "f", "parameters": {}}]) == [
        {"type": "function", "function": {"name": "f", "parameters": {}}}
    ]


def test_the_choice_of_a_function_is_that_of_a_tool() -> None:
    assert [as_tool_choice(one) for one in (None, "none", "auto")] == [None, "none", "auto"]
    assert as_tool_choice({"name": "f"}) == {"type": "function", "function": {"name": "f"}}


def test_a_result_answers_the_last_call_of_its_name() -> None:
    said = as_tool_messages(
        [
            {"role": "assistant", "function_call": CALL},
            {"role": "assistant", "function_call": {"name": "g", "arguments": ""}},
            {"role": "function", "name": "f", "content": "x"},
        ]
    )
    assert said[0] == {
        "role": "assistant",
        "tool_calls": [{"id": "call00000", "type": "function", "function": CALL}],
    }
    assert said[2] == {"role": "tool", "name": "f", "content": "x", "tool_call_id": "call00000"}


MODERN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
    optional={"content": st.text(max_size=5), "function_call": st.none(), "tool_calls": st.just([CALL])},
)


@given(st.lists(MODERN, max_size=5))
def test_what_is_said_in_todays_words_stays(messages: list[Mapping[str, Any]]) -> None:
    assert as_tool_messages(messages) == messages
