"""How a reply is read as a whole; what each syntax reads is in the transcripts (test_families)."""

from __future__ import annotations

import pytest

from meshnode.engine.replies.families import GENERIC, HERMES, KIMI_K2, QWEN3_CODER
from meshnode.engine.replies.pieces import CallArguments, CallBegan, Said, Thought
from tests.kit.replies import offered, read

CALL = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'


def test_arguments_leave_as_they_come() -> None:
    parser = HERMES.parser(tools=offered())
    assert parser.feed('<tool_call>\n{"name": "weather", "arguments": ') == []
    assert parser.feed('{"ci') == [CallBegan(0, "call_0", "weather"), CallArguments(0, '{"ci')]
    assert parser.feed('ty": "Ly') == [CallArguments(0, 'ty": "Ly')]
    assert parser.feed('on"') == [CallArguments(0, 'on"')]
    assert parser.feed("}") == [CallArguments(0, "}")]
    assert parser.feed("}\n</tool_call>") == parser.finish() == []


def test_a_string_between_tags_leaves_as_it_comes() -> None:
    parser = QWEN3_CODER.parser(tools=offered())
    parser.feed("<tool_call>\n<function=weather>\n<parameter=city>")
    assert parser.feed("\nLy") == [CallArguments(0, "Ly")]
    assert parser.feed('on "\n') == [CallArguments(0, 'on \\"')]
    assert parser.feed("x") == [CallArguments(0, "\\nx")]


def test_text_leaves_at_once() -> None:
    parser = HERMES.parser(tools=offered())
    assert [parser.feed(text) for text in ("Ly", "on.", " <b", ">")] == [
        [Said("Ly")],
        [Said("on.")],
        [Said(" <b")],
        [Said(">")],
    ]
    assert HERMES.parser(tools=()).feed("<tool_call>\n") == [Said("<tool_call>\n")]


def test_reasoning_can_open_again_after_a_call() -> None:
    pieces = read(HERMES, f"<think>a</think>{CALL}<think>b</think>c")
    assert [type(piece) for piece in pieces] == [Thought, CallBegan, CallArguments, Thought, Said]


def test_a_call_in_reasoning_that_is_none_stays_reasoning() -> None:
    mark = "<|tool_call_begin|>"
    assert read(KIMI_K2, f"<think>about {mark} so</think>x") == [Thought(f"about {mark} so"), Said("x")]


def test_reading_goes_on_at_the_character_that_was_wrong() -> None:
    pieces = read(HERMES, '<tool_call>{"name": <tool_call>{"name": "ping"}</tool_call>')
    assert pieces == [Said('<tool_call>{"name":'), CallBegan(0, "call_0", "ping"), CallArguments(0, "{}")]


def test_with_one_call_at_a_time_only_one_begins() -> None:
    pieces = read(HERMES, f"{CALL}\n{CALL}", parallel=False)
    assert pieces == [CallBegan(0, "call_0", "ping"), CallArguments(0, "{}"), Said(CALL)]


def test_only_a_tool_that_is_offered_is_called() -> None:
    assert read(HERMES, CALL, "weather") == [Said(CALL)]


@pytest.mark.parametrize("raw", ["", "\n", "{", "[", "`", "<", "<think", "</think"])
def test_a_reply_that_is_over_before_it_began_is_text(raw: str) -> None:
    assert read(GENERIC, raw) == ([Said(raw)] if raw else [])


def test_finishing_is_enough() -> None:
    parser = HERMES.parser(tools=offered())
    assert parser.finish() == []
