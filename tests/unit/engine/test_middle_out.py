"""Conversations shortened from the middle: what goes together, what stays always, and how much goes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import Message, Role, TextPart, ToolCall
from meshnode.engine.middle_out import middle_out, removable

ROLES = {"s": Role.SYSTEM, "d": Role.DEVELOPER, "u": Role.USER, "a": Role.ASSISTANT}


def conversation(script: str) -> tuple[Message, ...]:
    """One letter for each message: its role; ``c`` is a call, ``t`` the result of the last one."""
    made: list[Message] = []
    call = 0
    for at, letter in enumerate(script):
        parts = (TextPart(f"{letter}{at}"),)
        if letter == "c":
            call += 1
            calls = (ToolCall(f"call{call}", "f", "{}"),)
            made.append(Message(role=Role.ASSISTANT, parts=parts, tool_calls=calls))
        elif letter == "t":
            made.append(Message(role=Role.TOOL, parts=parts, tool_call_id=f"call{call}"))
        else:
            made.append(Message(role=ROLES[letter], parts=parts))
    return tuple(made)


def at_most(count: int, script: str) -> str:
    """Places of what stays of a conversation where ``count`` messages fit."""
    messages = conversation(script)
    left = middle_out(messages, len, most=count, most_characters=10**6)
    return " ".join(str(messages.index(message)) for message in left)


@pytest.mark.parametrize(
    ("script", "units"),
    [
        ("uauau", [[0, 1], [2, 3]]),
        ("suauau", [[1, 2], [3, 4]]),
        ("uasauu", [[0, 1, 3], [4]]),
        ("auau", [[0], [1, 2]]),
        ("uctau", [[0, 1, 2, 3]]),
        ("uauctctcta", [[0, 1], [3, 4], [5, 6], [7, 8]]),
        ("uauctct", [[0, 1], [3, 4]]),
        ("ucutau", [[0, 1, 2, 3, 4]]),
        ("ucut", []),
        ("u", []),
        ("s", []),
        ("aaa", []),
        ("", []),
    ],
)
def test_exchanges_go_together_and_rounds_of_the_last_one(script: str, units: list[list[int]]) -> None:
    assert removable(conversation(script)) == units


@pytest.mark.parametrize(
    ("count", "script", "left"),
    [
        (9, "suauauauau", "0 1 2 5 6 7 8 9"),
        (10, "suauauauau", "0 1 2 3 4 5 6 7 8 9"),
        (7, "suauauauau", "0 1 2 7 8 9"),
        (4, "suauauauau", "0 7 8 9"),
        (1, "suauauauau", "0 9"),
    ],
)
def test_the_middle_goes_first(count: int, script: str, left: str) -> None:
    assert at_most(count, script) == left


class Counted:
    """Counts the words of a conversation, at most ``limit`` messages of it, and how often it was asked."""

    def __init__(self, limit: int = 10**6) -> None:
        self.limit = limit
        self.asked: list[int] = []

    def __call__(self, messages: Sequence[Message]) -> int | None:
        self.asked.append(len(messages))
        if len(messages) > self.limit:
            return None
        texts = (part.text for message in messages for part in message.parts if isinstance(part, TextPart))
        return sum(len(text.split()) for text in texts)


def test_what_cannot_fit_is_not_tried() -> None:
    count = Counted()
    assert len(middle_out(conversation("u" * 100), count, most=3, most_characters=30)) == 3
    assert max(count.asked) <= 1 + 30 // 2


@pytest.mark.parametrize("limit", [10**6, 40])
@given(words=st.lists(st.integers(1, 300), min_size=1, max_size=300), most=st.integers(0, 20_000))
def test_a_few_looks_are_enough_and_no_more_goes_than_must(limit: int, words: list[int], most: int) -> None:
    texts = [f"{at} " + "word " * (count - 1) for at, count in enumerate(words)]
    messages = tuple(Message(role=Role.USER, parts=(TextPart(text),)) for text in texts)
    count = Counted(limit)
    left = middle_out(messages, count, most=most, most_characters=10**7)
    fitting = Counted(limit)
    taken = fitting(left)
    if len(left) > 1:
        assert taken is not None
        assert taken <= most
    if len(left) < len(messages) and most:
        gone = [message for message in messages if message not in left]
        longer = [fitting((*left, message)) for message in gone]
        assert any(length is None or length > most for length in longer)
    assert len(count.asked) <= 16


SCRIPTS = st.lists(st.sampled_from(["u", "a", "s", "ct", "c", "ctct", "d"]), max_size=24).map("".join)


@settings(max_examples=200)
@given(SCRIPTS, st.integers(0, 40), st.integers(0, 200))
def test_no_rule_is_broken_whatever_fits(script: str, room: int, most: int) -> None:
    messages = conversation(script)
    left = middle_out(messages, len, most=room, most_characters=most)
    places = [messages.index(message) for message in left]
    assert places == sorted(places), "the order stays"
    always = [at for at, message in enumerate(messages) if message.role in (Role.SYSTEM, Role.DEVELOPER)]
    users = [at for at, message in enumerate(messages) if message.role is Role.USER]
    spoken = [at for at, message in enumerate(messages) if message.role not in (Role.SYSTEM, Role.DEVELOPER)]
    assert {*always, *users[-1:], *spoken[-1:]} <= {*places}
    calls = {call.id for message in left for call in message.tool_calls}
    results = {message.tool_call_id for message in left if message.tool_call_id}
    answered = {message.tool_call_id for message in messages if message.tool_call_id}
    assert results <= calls, "no result without its call"
    assert calls & answered <= results, "no call without its result, where it had one"
    if len(messages) <= room and most >= 200:
        assert left == messages


@given(SCRIPTS, st.integers(0, 40))
def test_no_more_goes_than_must(script: str, room: int) -> None:
    messages = conversation(script)
    units = removable(messages)
    left = middle_out(messages, len, most=room, most_characters=10**6)
    least = len(messages) - sum(map(len, units))
    if least > room:
        assert len(left) == least
    else:
        assert len(left) <= room
        gone = [unit for unit in units if messages[unit[0]] not in left]
        assert not gone or len(left) + max(map(len, gone)) > room
