"""What moves to host memory and back, and what it takes of the cells."""

from __future__ import annotations

import numpy as np

from meshnode.domain import ServiceClass, Stopping
from meshnode.engine.memory import Memory, Recall, Save
from meshnode.engine.prefix import Cut, Share
from meshnode.engine.sequence import TokenSequence
from meshnode.engine.store import LEAST

LONG = list(range(400))


def sequence(number: int, tokens: list[int], caller: str = "a") -> TokenSequence:
    """A request with this prompt."""
    return TokenSequence(
        number, tokens, limit=1000, stopping=Stopping(), caller=caller, service_class=ServiceClass.OWNER
    )


def lived(memory: Memory, tokens: list[int], caller: str = "a") -> TokenSequence:
    """A request that computed its prompt and ended."""
    it = sequence(len(tokens), tokens, caller)
    memory.start(it, [])
    it.advance(it.pending)
    memory.publish([it])
    memory.end(it, keep=True)
    settle(memory)
    return it


def settle(memory: Memory) -> tuple[object, ...]:
    """Do what there is to do with a backend that saves a byte for each token; what it was."""
    done = memory.operations()
    for it in done:
        if isinstance(it, Save):
            memory.store.settle(it.state, np.zeros(len(it.state.tokens), dtype=np.uint8))
    return done


def test_idle_cells_beyond_their_share_move_out_one_state_at_a_time() -> None:
    memory = Memory(1600, 4, cuttable=True, budget=10_000)
    first = lived(memory, LONG)
    assert memory.idle == 400
    memory.tidy()
    save, cut = settle(memory)
    assert isinstance(save, Save)
    assert (save.seq, cut) == (first.slot, Cut(save.seq))
    assert (memory.idle, memory.store.size) == (0, 400)


def test_without_host_memory_idle_cells_stay_until_they_are_needed() -> None:
    memory = Memory(1600, 4, cuttable=True, budget=0)
    lived(memory, LONG)
    memory.tidy()
    assert memory.idle == 400
    memory.free(100)
    assert memory.idle == 300


def test_a_state_is_brought_back_as_far_as_it_serves() -> None:
    memory = Memory(1600, 4, cuttable=True, budget=10_000)
    lived(memory, LONG)
    memory.free(400)
    settle(memory)
    it = sequence(2, LONG[:300] + [7] * 50)
    memory.start(it, [])
    (recall,) = settle(memory)
    assert isinstance(recall, Recall)
    assert (recall.seq, recall.length, it.computed, it.cached) == (it.slot, 300, 300, 300)


def test_what_lies_in_cells_is_taken_before_a_state_that_serves_little_more() -> None:
    memory = Memory(1600, 4, cuttable=True, budget=10_000)
    lived(memory, LONG)
    memory.free(400)
    lived(memory, LONG[: 400 - LEAST + 2])
    it = sequence(2, LONG)
    memory.start(it, [])
    assert [type(done) for done in settle(memory)] == [Share]


def test_callers_share_neither_cells_nor_states() -> None:
    for budget in (0, 10_000):
        memory = Memory(1600, 4, cuttable=True, budget=budget)
        lived(memory, LONG)
        if budget:
            memory.free(400)
        it = sequence(2, LONG, caller="b")
        assert memory.find(it).length == 0
        memory.start(it, [])
        assert it.cached == 0


def test_a_memory_that_cannot_be_cut_is_saved_at_both_ends_of_an_answer() -> None:
    memory = Memory(1600, 2, cuttable=False, budget=10_000)
    it = sequence(1, LONG[:100])
    memory.start(it, [])
    it.advance(100)
    memory.publish([it])
    it.tokens += LONG[100:180]
    it.advance(79)
    memory.end(it, keep=True)
    saves = [len(done.state.tokens) for done in settle(memory) if isinstance(done, Save)]
    assert saves == [100, 179]
    assert memory.find(sequence(2, LONG[:300])).length == 179
    assert memory.find(sequence(2, LONG[:150])).length == 100


def test_a_chunk_ends_where_two_prompts_part() -> None:
    memory = Memory(1600, 2, cuttable=False, budget=10_000)
    lived(memory, LONG[:200])
    it = sequence(2, LONG[:120] + [7] * 80)
    memory.start(it, [])
    assert (it.cached, it.stretch, it.allowance) == (0, 120, 200)
    it.advance(120)
    memory.publish([it])
    (save,) = settle(memory)
    assert isinstance(save, Save)
    assert save.state.tokens == LONG[:120]
    assert it.stretch == 80


def test_failed_requests_leave_nothing() -> None:
    for cuttable in (True, False):
        memory = Memory(1600, 2, cuttable=cuttable, budget=10_000)
        it = sequence(1, LONG)
        memory.start(it, [])
        it.advance(200)
        memory.end(it, keep=False)
        assert (memory.idle, len(memory.store)) == (0, 0)


def test_forgetting_takes_cells_and_states() -> None:
    memory = Memory(1600, 4, cuttable=True, budget=10_000)
    it = lived(memory, LONG)
    memory.free(400)
    settle(memory)
    lived(memory, LONG[::-1])
    memory.forget(it)
    assert (memory.idle, len(memory.store)) == (0, 0)
