"""A wrong answer is found, a right one is not; greedy answers part at a margin."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmark.soak_asks import CARD, Ask
from benchmark.soak_judge import drift, faults, margin
from benchmark.streams import Answer, Chosen
from benchmark.texts import schema_format

GOOD_CARD = '{"name": "a", "kind": "place", "known": true, "tags": []}'
FORM: dict[str, dict[str, Any]] = {
    "free": {},
    "regex": {"structured_outputs": {"regex": "[A-Z]{2}-[0-9]{4}"}},
    "choice": {"structured_outputs": {"choice": ["yes", "no"]}},
    "schema": {"response_format": schema_format(CARD)},
}


def answer(text: str, finish: str = "stop") -> Answer:
    return Answer(0.0, choices={0: text}, finishes={0: finish})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("regex", "AB-1234", "AB-123"), ("choice", "no", "perhaps"), ("schema", GOOD_CARD, "{}")],
)
def test_a_finished_answer_must_have_its_form(kind: str, good: str, bad: str) -> None:
    ask = Ask(kind, "C" * 10, FORM[kind])
    assert faults(ask, answer(good), ()) == []
    assert faults(ask, answer(bad, "length"), ()) == []
    assert "not of the form" in faults(ask, answer(bad), ())[0]


def test_a_call_is_held_to_its_parameters() -> None:
    ask = Ask("tool", "C" * 10, {"tools": [{}]})
    called = Answer(0.0, finishes={0: "tool_calls"}, arguments={0: GOOD_CARD})
    assert faults(ask, called, ()) == []
    assert faults(ask, Answer(0.0, finishes={0: "tool_calls"}), ()) != []


def test_a_neighbours_code_word_is_found_and_the_own_one_is_not() -> None:
    ask = Ask("free", "AAAAAAAAAA", {})
    codes = {"AAAAAAAAAA", "BBBBBBBBBB"}
    assert faults(ask, answer("AAAAAAAAAA, or CCCCCCCCCC"), codes) == []
    assert faults(ask, answer("it is BBBBBBBBBB."), codes) == ["free: the code word BBBBBBBBBB of another request"]


def test_every_choice_must_end() -> None:
    assert faults(Ask("several", "", {"n": 2}), answer("x"), ()) == ["several: 1 of 2 choices ended"]


def said(token: str, logprob: float = -1.0, **top: float) -> Chosen:
    return Chosen(token, logprob, {token: logprob, **top})


def test_equal_answers_do_not_part() -> None:
    assert margin([said("a"), said("b")], [said("a", -1.1), said("b")]) is None
    assert drift([said("a"), said("b")], [said("a", -1.1), said("b")]) == pytest.approx(0.1)


def test_the_margin_is_taken_within_one_run_where_it_can_be() -> None:
    assert margin([said("a"), said("b", -0.5, c=-0.7)], [said("a"), said("c", -0.1)]) == pytest.approx(0.2)
    assert margin([said("b", -0.5)], [said("c", -0.9, b=-1.0)]) == pytest.approx(0.1)
    assert margin([said("b", -0.5)], [said("c", -0.9)]) == pytest.approx(0.4)


def test_where_one_ends_sooner_the_lead_of_the_next_token_counts() -> None:
    assert margin([said("a")], [said("a"), said("b", -0.6, c=-0.7)]) == pytest.approx(0.1)
    assert margin([said("a")], [said("a"), said("b")]) == math.inf


def test_what_comes_after_the_parting_is_no_drift() -> None:
    assert drift([said("a"), said("b"), said("c", -9)], [said("a"), said("x"), said("c", -1)]) == 0.0
