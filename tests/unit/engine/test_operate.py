"""What was decided is done, and what cannot be done is told."""

from __future__ import annotations

from meshnode.engine.backend import Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.memory import Recall, Save
from meshnode.engine.operate import operate
from meshnode.engine.prefix import Cut, Share
from meshnode.engine.store import StateStore

TOKENS = list(b"a prompt of some length")


def filled(n_ctx: int = 100) -> FakeBackend:
    """A backend whose sequence 0 has computed the prompt."""
    backend = FakeBackend(n_ctx, 2)
    backend.decode([Row(0, token, place, False) for place, token in enumerate(TOKENS)])
    return backend


def test_cells_are_shared_and_cut() -> None:
    backend = filled()
    assert operate([Share(0, 1, 0, 10), Cut(0)], backend, StateStore(0, cuttable=True)) == set()
    assert backend.cells_used == 10


def test_a_state_goes_out_and_comes_back_as_far_as_it_serves() -> None:
    backend, store = filled(), StateStore(1000, cuttable=True)
    state = store.add("a", TOKENS, 0)
    assert operate([Save(0, state), Cut(0), Recall(1, state, 5)], backend, store) == set()
    assert backend.cells_used == 5
    assert store.size > 0


def test_a_state_that_has_no_room_or_was_never_saved_is_lost() -> None:
    backend, store = filled(n_ctx=len(TOKENS) + 3), StateStore(1000, cuttable=True)
    state = store.add("a", TOKENS, 0)
    assert operate([Save(0, state), Recall(1, state, 5)], backend, store) == {1}
    assert operate([Recall(1, store.add("b", TOKENS, 0), 5)], backend, store) == {1}
    assert backend.cells_used == len(TOKENS)
