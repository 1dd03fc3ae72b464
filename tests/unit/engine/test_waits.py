"""Guesses at how long one waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.waits import AnswerLength, Left, waits


def test_one_slot_serves_one_after_the_other() -> None:
    queue = [Left(100, 20), Left(100, 20), Left(0, 0)]
    assert waits([Left(0, 10)], queue, 1, prefill_tps=100, step_s=0.1) == pytest.approx([1.0, 4.0, 7.0])


def test_a_free_slot_is_there_at_once() -> None:
    assert waits([], [Left(1, 1)], 2, prefill_tps=100, step_s=0.1) == [0.0]


def test_nothing_is_guessed_before_anything_was_measured() -> None:
    assert waits([Left(1, 1)], [Left(1, 1)], 1, prefill_tps=0, step_s=0.1) == []
    assert waits([Left(1, 1)], [Left(1, 1)], 1, prefill_tps=1, step_s=0) == []


def test_prompts_ahead_count_even_with_a_slot_for_each() -> None:
    assert waits([Left(500, 0)], [Left(1, 1)], 1, prefill_tps=100, step_s=0.1) == [5.0]


def test_answers_are_as_long_as_they_were() -> None:
    length = AnswerLength()
    for _ in range(100):
        length.observe(50)
    assert length.left(0, None) == pytest.approx(50, abs=1)
    assert length.left(0, 8) == 8
    assert length.left(100, None) == 50, "one that is long already goes on"
    assert length.left(100, 101) == 1


lefts = st.lists(st.builds(Left, st.integers(0, 500), st.floats(0, 500)), max_size=8)


@given(lefts, lefts, st.integers(1, 8))
def test_nobody_waits_less_than_who_stands_before(running: list[Left], queue: list[Left], slots: int) -> None:
    told = waits(running[:slots], queue, slots, prefill_tps=100, step_s=0.02)
    assert len(told) == len(queue)
    assert told == sorted(told)
    assert all(wait >= 0 for wait in told)
