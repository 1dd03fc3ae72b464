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
    left = middle_out(messages, lambda some: len(some) <= count, most_characters=10**6)
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


def test_what_cannot_fit_is_not_tried() -> None:
    messages = conversation("u" * 100)
    tried: list[int] = []

    def fits(some: Sequence[Message]) -> bool:
        tried.append(len(some))
        return len(some) <= 3

    assert len(middle_out(messages, fits, most_characters=30)) == 3
    assert max(tried) <= 1 + 30 // 2
    assert len(tried) < 8


SCRIPTS = st.lists(st.sampled_from(["u", "a", "s", "ct", "c", "ctct", "d"]), max_size=24).map("".join)


@settings(max_examples=200)
@given(SCRIPTS, st.integers(0, 40), st.integers(0, 200))
def test_no_rule_is_broken_whatever_fits(script: str, room: int, most: int) -> None:
    messages = conversation(script)
    left = middle_out(messages, lambda some: len(some) <= room, most_characters=most)
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
    left = middle_out(messages, lambda some: len(some) <= room, most_characters=10**6)
    least = len(messages) - sum(map(len, units))
    if least > room:
        assert len(left) == least
    else:
        assert len(left) <= room
        gone = [unit for unit in units if messages[unit[0]] not in left]
        assert not gone or len(left) + max(map(len, gone)) > room
