"""States in host memory: which serves, and which goes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.store import LEAST, State, StateStore

LONG = list(range(300))


def saved(store: StateStore, tokens: list[int], owner: str = "a", rank: int = 0, size: int = 100) -> State:
    """A state of these tokens that takes so many bytes."""
    state = store.add(owner, tokens, rank)
    store.settle(state, np.zeros(size, dtype=np.uint8))
    return state


def test_a_whole_state_serves_only_what_begins_with_all_of_it() -> None:
    store = StateStore(1000, cuttable=False)
    short, _ = saved(store, LONG[:100]), saved(store, LONG[:200])
    assert store.find("a", LONG, 150) == (100, short)
    assert store.find("a", LONG[:90], 90) == (0, None)
    assert store.branch("a", LONG, 150) == 150


def test_a_part_serves_where_it_can_be_cut() -> None:
    store = StateStore(1000, cuttable=True)
    state = saved(store, LONG)
    assert store.find("a", [*LONG[:90], 7], 91) == (90, state)


def test_states_are_never_found_by_others() -> None:
    store = StateStore(1000, cuttable=True)
    saved(store, LONG)
    assert store.find("b", LONG, 300) == (0, None)
    assert store.branch("b", LONG, 300) == 0


def test_a_longer_state_makes_its_beginnings_needless_where_it_can_be_cut() -> None:
    for cuttable in (True, False):
        store = StateStore(1000, cuttable=cuttable)
        saved(store, LONG[:100])
        saved(store, LONG)
        assert (len(store), store.size) == ((1, 100) if cuttable else (2, 200))


def test_the_least_recently_used_of_the_lowest_class_goes_first() -> None:
    store = StateStore(300, cuttable=True)
    states = [saved(store, [n] * 99, rank=rank) for n, rank in enumerate((0, 5, 5))]
    store.touch(states[1])
    saved(store, [9] * 99)
    assert store.find("a", [2] * 99, 99) == (0, None)
    saved(store, [8] * 99)
    assert [store.find("a", [n] * 99, 99)[0] for n in range(3)] == [99, 0, 0]
    assert store.size <= 300


def test_what_is_there_already_or_too_small_is_not_wanted() -> None:
    store = StateStore(1000, cuttable=True)
    saved(store, LONG[:200])
    assert not store.wants("a", LONG, 200 + LEAST - 1)
    assert store.wants("a", LONG, 200 + LEAST)
    assert not StateStore(0, cuttable=True).wants("a", LONG, 300)


def test_what_could_not_be_saved_or_is_too_large_is_not_there() -> None:
    store = StateStore(1000, cuttable=True)
    store.settle(store.add("a", LONG, 0), None)
    saved(store, [5] * 99, size=1001)
    assert (len(store), store.size) == (0, 0)


def test_a_state_that_was_forgotten_while_it_was_saved_takes_no_room() -> None:
    store = StateStore(1000, cuttable=True)
    state = store.add("a", LONG, 0)
    store.forget_owner("a")
    store.settle(state, np.zeros(10, dtype=np.uint8))
    assert (len(store), store.size) == (0, 0)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(1, 400), st.integers(0, 2)), max_size=60)
)
def test_never_more_than_the_budget(stories: list[tuple[str, int, int, int]]) -> None:
    store = StateStore(1000, cuttable=False)
    for owner, head, size, rank in stories:
        saved(store, [head] * size, owner, rank, size)
        every = [state for states in store._states.values() for state in states]
        assert store.size == sum(state.data.nbytes for state in every if state.data is not None) <= 1000
