"""How large a chunk of a prompt may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.budget import BUSY_S, SMALLEST, TILE, StepBudget
from meshnode.engine.scheduler import Scheduler
from tests.kit.schedules import at_most, sequence


def test_full_size_until_something_was_measured() -> None:
    assert StepBudget(512).tokens(decoding=0) == 512
    assert StepBudget(512).tokens(decoding=16) == 496


def test_slow_machine_gets_small_chunks_beside_running_streams() -> None:
    budget = StepBudget(512, prefill_tps=600)
    assert budget.tokens(decoding=4) <= 600 * BUSY_S
    assert budget.tokens(decoding=0) > budget.tokens(decoding=4)


def test_fast_machine_never_notices() -> None:
    assert StepBudget(512, prefill_tps=20_000).tokens(decoding=4) == 508


def test_follows_the_machine_when_it_slows_down() -> None:
    budget = StepBudget(512, prefill_tps=20_000)
    for _ in range(30):
        budget.observe(0, 512, 1.0)
    assert budget.tokens(decoding=4) <= 96


def test_a_chunk_takes_a_few_of_the_streams_own_steps() -> None:
    budget = StepBudget(512, prefill_tps=10_000)
    for _ in range(30):
        budget.observe(4, 0, 0.005)
    assert budget.tokens(decoding=4) == 192 - 4, "25 ms of prefill beside steps of 5 ms, in whole tiles"
    assert budget.tokens(decoding=0) == 512


def test_a_slow_machine_gives_prompts_as_much_time_as_the_streams() -> None:
    budget = StepBudget(512, prefill_tps=400)
    budget.observe(4, 0, 0.4)
    assert budget.tokens(decoding=4) == 128 - 4


def test_the_streams_share_of_a_step_is_not_taken_for_the_prompts() -> None:
    budget = StepBudget(512)
    budget.observe(4, 0, 0.1)
    budget.observe(4, 100, 0.6)
    assert budget.prefill_tps == pytest.approx(200)


def test_tiny_steps_tell_nothing() -> None:
    budget = StepBudget(512, prefill_tps=20_000)
    budget.observe(0, 1, 1.0)
    budget.observe(0, 512, 0.0)
    assert budget.tokens(decoding=4) == 508


@pytest.mark.parametrize("decoding", [0, 1, 4, 16, 31, 32, 33, 63, 64, 100])
def test_steps_are_whole_tiles_with_half_a_tile_of_prompt_at_least(decoding: int) -> None:
    tokens = StepBudget(512, prefill_tps=1.0).tokens(decoding=decoding)
    assert (tokens + decoding) % TILE == 0
    assert SMALLEST <= tokens < SMALLEST + TILE


@given(st.integers(1, 600), st.floats(0, 1e6), st.integers(0, 700))
def test_never_over_the_ceiling_and_never_nothing_while_there_is_room(ceiling: int, tps: float, decoding: int) -> None:
    tokens = StepBudget(ceiling, prefill_tps=tps).tokens(decoding=decoding)
    room = max(0, ceiling - decoding)
    assert min(room, SMALLEST) <= tokens <= room


@pytest.mark.parametrize(
    ("prompt", "most", "first"),
    [(100, 512, 100), (127, 512, 127), (128, 512, 64), (200, 512, 64), (100, 90, 64), (100, 0, 64)],
)
def test_the_end_of_a_prompt_that_fills_no_tile_is_computed_with_the_rest(prompt: int, most: int, first: int) -> None:
    scheduler = Scheduler(slots=1, cells=1000, most_rows=most)
    scheduler.submit(sequence(1, prompt))
    (chunk,) = scheduler.plan(at_most(TILE), 0.0).chunks
    assert (chunk.length, chunk.last) == (first, first == prompt)
