"""Which JSON is a call."""

from __future__ import annotations

import pytest

from meshnode.engine.replies.families import APERTUS, GENERIC, HERMES
from tests.kit.replies import plain, read

PING = [["call", "call_0", "ping"], ["arguments", "{}"]]
CALLS = [
    '{"name": "ping", "arguments": {}}',
    '{"name": "ping", "parameters": {}}',
    '{"tool_name": "ping", "arguments": {}}',
    '{"function": "ping", "arguments": {}}',
    '{"id": "x", "type": "function", "name": "ping", "arguments": {}}',
    '{"name": "ping", "arguments": {}, "id": 7}',
    '{"function": {"name": "ping", "arguments": {}}}',
    '{"type": "function", "function": {"arguments": {}, "name": "ping"}}',
    '{"tool_calls": [{"name": "ping", "arguments": {}}]}',
    '{"name": "functions.ping", "arguments": "{}"}',
    '{"name": "pi\\u006eg", "arguments": null}',
    ' [ {"name": "ping", "arguments": {} } ] ',
]
TEXTS = [
    '{"name": "ping", "arguments": 1}',
    '{"name": "ping", "arguments": "x"}',
    '{"name": "ping", "arguments": "{} x"}',
    '{"name": ["ping"], "arguments": {}}',
    '{"name": "ping", "why": {}}',
    '{"arguments": {}}',
    '{"function": {"function": {"name": "ping", "arguments": {}}}}',
    '{"arguments": {"a": }, "name": "ping"}',
    '{"arguments": {}, "arguments": {}, "name": "ping"}',
    "{}",
    "[]",
    "[1]",
    '["ping"]',
]


@pytest.mark.parametrize("written", CALLS)
def test_ways_to_write_a_call(written: str) -> None:
    assert plain(read(GENERIC, written)) == PING
    assert plain(read(HERMES, f"<tool_call>{written}</tool_call>")) == PING


@pytest.mark.parametrize("written", TEXTS)
def test_what_is_no_call_is_text_as_it_was_written(written: str) -> None:
    assert plain(read(GENERIC, written)) == [["said", written]]


def test_calls_stand_in_a_row() -> None:
    for between in ("", "\n", ", ", "; "):
        written = between.join(['{"name": "ping", "arguments": {}}'] * 3)
        assert [kind for kind, *_ in plain(read(GENERIC, written))] == ["call", "arguments"] * 3


def test_a_separator_that_nothing_follows_is_text() -> None:
    assert plain(read(GENERIC, '{"name": "ping", "arguments": {}}, and so on'))[2:] == [["said", ", and so on"]]


def test_a_tool_named_like_a_key() -> None:
    written = '<|tools_prefix|>[{"ping": {}}]<|tools_suffix|>'
    assert plain(read(APERTUS, written)) == PING
    assert plain(read(APERTUS, written, "weather")) == [["said", written]]
