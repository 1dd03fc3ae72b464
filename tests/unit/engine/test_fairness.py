"""Who comes next of several callers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.fairness import TokenCounters


def test_an_answer_counts_twice_a_prompt() -> None:
    counters = TokenCounters()
    counters.charge("a", prompt=10, answer=3)
    assert counters.of("a") == 16


def test_a_newcomer_does_not_start_behind_or_far_ahead() -> None:
    counters = TokenCounters()
    counters.charge("a", prompt=100)
    counters.charge("b", prompt=70)
    counters.settle("ab")
    counters.arrive("c")
    assert counters.of("c") == 70


def test_nobody_saves_up_service_by_being_away() -> None:
    counters = TokenCounters()
    counters.charge("a", prompt=10)
    counters.settle("a")
    counters.charge("b", prompt=500)
    counters.settle("b")
    counters.arrive("a")
    assert counters.of("a") == counters.of("b") == 510


def test_nobody_is_forgiven_by_being_away_for_a_moment() -> None:
    counters = TokenCounters()
    for caller, tokens in (("a", 500), ("b", 10)):
        counters.charge(caller, prompt=tokens)
    counters.settle("b")
    counters.arrive("a")
    assert counters.of("a") == 500


def test_an_idle_engine_remembers_nobody() -> None:
    counters = TokenCounters()
    counters.charge("a", prompt=500)
    counters.settle("")
    assert counters.of("a") == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=30, max_size=200))
def test_those_who_always_want_get_the_same_up_to_one_request(sizes: list[tuple[str, int]]) -> None:
    counters = TokenCounters()
    served = dict.fromkeys("abc", 0)
    for caller in served:
        counters.arrive(caller)
    for _, size in sizes:
        counters.settle("abc")
        caller = min(served, key=counters.of)
        counters.charge(caller, prompt=size)
        served[caller] += size
    assert max(served.values()) - min(served.values()) <= 50
