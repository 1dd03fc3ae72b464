"""Every turn of a remembered conversation stands in it once, whatever its caller sends again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import FinishReason, Message, ReasoningPart, RefusalPart, Role, TextPart, ToolCall
from meshnode.events import (
    ChoiceFinished,
    Event,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from meshnode.gateway.conversation import continued, grown, spoken


def turn(text: str, role: Role = Role.USER) -> Message:
    return Message(role=role, parts=(TextPart(text),))


def system(text: str) -> Message:
    return turn(text, Role.SYSTEM)


HI, HELLO, MORE, FINE = turn("hi"), turn("hello", Role.ASSISTANT), turn("more"), turn("fine", Role.ASSISTANT)
TURNS = st.lists(st.sampled_from([HI, HELLO, MORE, FINE]), max_size=5).map(tuple)
HEADS = st.sampled_from([(), (system("be brief"),), (system("be long"), turn("x", Role.DEVELOPER))])


@pytest.mark.parametrize(
    ("history", "sent", "whole"),
    [
        ((), (HI,), (HI,)),
        ((HI, HELLO), (MORE,), (HI, HELLO, MORE)),
        ((HI, HELLO), (HI, HELLO, MORE), (HI, HELLO, MORE)),
        ((HI, HELLO), (HI,), (HI, HELLO, HI)),
        ((system("a"), HI, HELLO), (MORE,), (system("a"), HI, HELLO, MORE)),
        ((system("a"), HI, HELLO), (system("b"), MORE), (system("b"), HI, HELLO, MORE)),
        ((system("a"), HI, HELLO), (system("b"), HI, HELLO, MORE), (system("b"), HI, HELLO, MORE)),
    ],
)
def test_what_is_new_comes_behind_what_was(
    history: tuple[Message, ...], sent: tuple[Message, ...], whole: tuple[Message, ...]
) -> None:
    assert continued(history, sent) == whole


def test_a_conversation_sent_back_is_known_though_its_thoughts_are_not() -> None:
    thought = Message(role=Role.ASSISTANT, parts=(ReasoningPart("hm"), TextPart("hel"), TextPart("lo")))
    assert continued((HI, thought), (HI, HELLO, MORE)) == (HI, HELLO, MORE)


def test_calls_tell_turns_apart() -> None:
    call = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="1", name="f", arguments="{}"),))
    other = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="2", name="f", arguments="{}"),))
    assert continued((HI, call), (HI, other)) == (HI, call, HI, other)
    assert continued((HI, call), (HI, call, MORE)) == (HI, call, MORE)


@given(HEADS, TURNS, HEADS, TURNS)
def test_an_exchange_is_added_once_however_often_it_is(
    head: tuple[Message, ...], history: tuple[Message, ...], other: tuple[Message, ...], sent: tuple[Message, ...]
) -> None:
    said = (*continued(head + history, other + sent), FINE)
    once = grown(head + history, said)
    assert once == said
    assert grown(once, said) == once


def test_an_exchange_that_came_between_loses_nobodys_turn() -> None:
    one = (*continued((HI, HELLO), (turn("a"),)), turn("A", Role.ASSISTANT))
    two = (*continued((HI, HELLO), (turn("b"),)), turn("B", Role.ASSISTANT))
    both = grown(grown((HI, HELLO), one), two)
    assert both == (HI, HELLO, turn("a"), turn("A", Role.ASSISTANT), turn("b"), turn("B", Role.ASSISTANT))


def test_the_first_choice_is_what_was_spoken() -> None:
    events: list[Event] = [
        Started(5),
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        TextDelta("Hel"),
        TextDelta("no", 1),
        TextDelta("lo"),
        ToolCallStarted(0, "c1", "f"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(0, "1}"),
        ToolCallDelta(7, "of no call"),
        ChoiceFinished(FinishReason.TOOL_CALLS),
    ]
    assert spoken(events) == Message(
        role=Role.ASSISTANT,
        parts=(ReasoningPart("hm"), TextPart("Hello")),
        tool_calls=(ToolCall(id="c1", name="f", arguments='{"a":1}'),),
    )
    assert spoken([RefusalDelta("no")]).parts == (RefusalPart("no"),)
    assert spoken([]).parts == ()
