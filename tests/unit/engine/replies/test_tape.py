"""A reader of the tape cannot see where the text was cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.replies.tape import LONGEST_WORD, Malformed, Steps, Tape
from tests.kit.replies import cut

T = TypeVar("T")


def run(reader: Callable[[Tape], Steps[T]], texts: Sequence[str], replayed: str = "") -> T:
    """What a reader returns when the text comes in these parts."""
    tape = Tape(replayed)
    steps = reader(tape)
    try:
        next(steps)
        for text in texts:
            tape.write(text)
            next(steps)
        tape.close()
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it wants more than there is")


@given(st.text(alphabet="<ab>", max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_the_text_before_a_mark_is_the_same_however_it_comes(text: str, places: list[int]) -> None:
    def reader(tape: Tape) -> Steps[tuple[str, str]]:
        parts: list[str] = []
        mark = yield from tape.until(("<a>", "<b"), parts.append)
        return "".join(parts), mark

    at, mark = min(((text.find(each), each) for each in ("<a>", "<b") if each in text), default=(len(text), ""))
    assert run(reader, cut(text, places)) == (text[:at], mark)


def test_only_what_could_begin_a_mark_waits() -> None:
    tape, out = Tape(), list[str]()
    steps = tape.until(("<tool>", "</think>"), out.append)
    next(steps)
    for text, said in (("a <", "a "), ("t", ""), ("o", ""), ("x</th", "<tox"), ("<b", "</th<b")):
        out.clear()
        tape.write(text)
        next(steps)
        assert "".join(out) == said


def test_a_match_consumes_what_it_found_and_nothing_else() -> None:
    def reader(tape: Tape) -> Steps[list[str]]:
        found = [(yield from tape.match(("ab", "cd")))]
        found.append((yield from tape.match(("ab", "cx"))))
        found.append((yield from tape.peek()))
        found.append((yield from tape.match(("cd",))))
        return [*found, (yield from tape.peek())]

    for texts in (["abcd"], list("abcd"), ["abc", "d"]):
        assert run(reader, texts) == ["ab", "", "c", "cd", ""]


def test_the_beginning_of_a_mark_at_the_very_end_is_syntax_only_if_asked() -> None:
    def reader(tape: Tape) -> Steps[tuple[str, str]]:
        kept = yield from tape.match(("</call>",))
        first = yield from tape.peek()
        yield from tape.match(("</call>",), cut=True)
        return kept + first, (yield from tape.peek())

    assert run(reader, ["</ca"]) == ("<", "")


def test_a_word_ends_with_one_of_its_ends() -> None:
    def reader(tape: Tape) -> Steps[tuple[str, str]]:
        return (yield from tape.word((">", "[X]")))

    assert run(reader, ["na", "me[", "X]"]) == ("name", "[X]")
    for wrong in ("a\nb>", "a<b>", "a", "x" * (LONGEST_WORD + 1) + ">"):
        with pytest.raises(Malformed):
            run(reader, [wrong])


def test_what_was_expected_may_have_white_space_before_it() -> None:
    def reader(tape: Tape) -> Steps[str]:
        return (yield from tape.expect("{", "}"))

    assert run(reader, [" \n", "\t}"]) == "}"
    with pytest.raises(Malformed):
        run(reader, [" x"])


def test_what_was_consumed_can_be_unsaid_until_it_is_forgotten() -> None:
    def reader(tape: Tape) -> Steps[list[Any]]:
        yield from tape.match(("a",))
        tape.forget()
        yield from tape.match(("b",))
        yield from tape.white()
        yield from tape.until((">",), None)
        return [tape.held(), tape.unsaid(), tape.unsaid()]

    assert run(reader, list("ab  c>")) == ["b  c>", "b  c>", ""]


def test_what_the_prompt_said_is_read_but_never_given_back() -> None:
    def reader(tape: Tape) -> Steps[list[str]]:
        yield from tape.match((">>>",))
        yield from tape.match(("ab",))
        return [tape.held(), tape.unsaid()]

    assert run(reader, ["a", "b"], replayed=">>>") == [">>>ab", "ab"]


def test_without_marks_all_is_text() -> None:
    def reader(tape: Tape) -> Steps[str]:
        parts: list[str] = []
        yield from tape.until((), parts.append)
        return "".join(parts)

    assert run(reader, ["<a>", "b"]) == "<a>b"
