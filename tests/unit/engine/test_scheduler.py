"""Who is served, when, and with how much: on the pure scheduler, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import ServiceClass
from meshnode.engine.pipe import UNLIMITED
from meshnode.engine.scheduler import Plan, QueueFullError, Scheduler
from meshnode.engine.sequence import TokenSequence
from tests.kit.schedules import at_most, sequence, shape, started, take

OWNER, NEWCOMER = ServiceClass.OWNER, ServiceClass.NEWCOMER


def test_first_come_first_served_within_a_class() -> None:
    scheduler = Scheduler(slots=2, cells=100)
    for number in (1, 2, 3):
        scheduler.submit(sequence(number))
    assert [it.number for it in scheduler.plan(at_most(64), 0.0).admitted] == [1, 2]
    assert [it.number for it in scheduler.waiting] == [3]


def test_better_class_goes_first() -> None:
    scheduler = Scheduler(slots=1, cells=100)
    scheduler.submit(sequence(1, of=NEWCOMER))
    scheduler.submit(sequence(2, of=OWNER))
    scheduler.submit(sequence(3, of=ServiceClass.FRIEND))
    assert [it.number for it in scheduler.waiting] == [2, 3, 1]


def test_owner_takes_a_strangers_slot() -> None:
    scheduler = Scheduler(slots=2, cells=400)
    started(scheduler, sequence(1, of=NEWCOMER), sequence(2, of=NEWCOMER))
    scheduler.submit(sequence(3, of=OWNER))
    plan = scheduler.plan(at_most(64), 0.0)
    assert [it.number for it in plan.admitted] == [3]
    assert [it.number for it in scheduler.waiting] == [2], "the youngest gives way"
    assert [it.number for it in plan.requeued] == [2]


def test_a_higher_class_takes_a_slot_once_something_came_of_it() -> None:
    scheduler = Scheduler(slots=1, cells=400)
    started(scheduler, low := sequence(1, of=ServiceClass.LEFTOVER))
    scheduler.submit(sequence(2, of=ServiceClass.FRIEND))
    while not scheduler.plan(at_most(64), 0.0).requeued:
        low.advance(1)
        low.accept(1, ends_generation=False)
    assert low.charged == 32, "it was not thrown out with nothing done"
    assert [it.number for it in scheduler.running] == [2]


def test_equals_do_not_take_each_others_slots() -> None:
    scheduler = Scheduler(slots=1, cells=400)
    started(scheduler, low := sequence(1, of=ServiceClass.FRIEND))
    low.advance(1)
    low.tokens += [1] * 200
    scheduler.submit(sequence(2, of=ServiceClass.FRIEND))
    assert scheduler.plan(at_most(64), 99.0).admitted == ()


def test_running_streams_get_their_token_before_any_prompt() -> None:
    scheduler = Scheduler(slots=4, cells=1000)
    started(scheduler, sequence(1), sequence(2))
    scheduler.submit(sequence(3, 500))
    assert shape(scheduler.plan(at_most(34), 0.0)) == {1: 1, 2: 1, 3: 32}


def test_short_question_does_not_wait_for_a_long_prompt() -> None:
    scheduler = Scheduler(slots=4, cells=5000)
    scheduler.submit(sequence(1, 4000, limit=5000))
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    scheduler.submit(sequence(2, 20))
    plan = scheduler.plan(at_most(64), 0.0)
    assert shape(plan) == {1: 44, 2: 20}
    assert [it.number for it, _, last in plan.chunks if last] == [2]


def test_long_prompt_is_not_starved_by_short_ones() -> None:
    scheduler = Scheduler(slots=8, cells=9000)
    scheduler.submit(sequence(1, 4000, limit=9000))
    for number in range(2, 9):
        scheduler.submit(sequence(number, 64))
    assert shape(scheduler.plan(at_most(64), 0.0))[1] == 32


def test_prompt_is_computed_in_chunks_and_drawn_from_once() -> None:
    scheduler = Scheduler(slots=1, cells=1000)
    scheduler.submit(sequence(1, 100))
    seen = []
    for _ in range(4):
        plan = scheduler.plan(at_most(40), 0.0)
        seen += [(length, last) for _, length, last in plan.chunks]
        take(scheduler, plan)
    assert seen == [(40, False), (40, False), (20, True), (1, True)]


def test_nothing_is_admitted_that_has_no_cells() -> None:
    scheduler = Scheduler(slots=4, cells=100)
    started(scheduler, sequence(1, 60))
    scheduler.submit(sequence(2, 50))
    scheduler.submit(sequence(3, 5))
    assert scheduler.plan(at_most(64), 0.0).admitted == (), "a short one does not overtake the head of the queue"
    scheduler.release(scheduler.running[0])
    assert [it.number for it in scheduler.plan(at_most(64), 0.0).admitted] == [2, 3]


def test_youngest_of_the_lowest_class_gives_way_when_cells_run_out() -> None:
    scheduler = Scheduler(slots=3, cells=80)
    started(scheduler, sequence(1, 4), sequence(2, 4, of=NEWCOMER), sequence(3, 4, of=NEWCOMER))
    while not scheduler.waiting:
        take(scheduler, scheduler.plan(at_most(64), 0.0))
    assert [it.number for it in scheduler.waiting] == [3]
    assert scheduler.waiting[0].computed == 0
    assert {it.number for it in scheduler.running} == {1, 2}


def test_preempted_goes_on_where_it_was() -> None:
    scheduler = Scheduler(slots=2, cells=40)
    started(scheduler, sequence(1, 4, most=25), sequence(2, 4, most=25))
    finished: list[int] = []
    while scheduler.runnable:
        finished += take(scheduler, scheduler.plan(at_most(16), 0.0))
    assert finished == [1, 2]


def test_a_prompt_is_computed_as_far_as_it_is_paid() -> None:
    scheduler = Scheduler(slots=2, cells=100)
    gated = sequence(1, 10, prefill=6, credit=9)
    scheduler.submit(gated)
    plan = scheduler.plan(at_most(64), 0.0)
    assert [(length, last) for _, length, last in plan.chunks] == [(6, False)], "and no token is drawn from it"
    take(scheduler, plan)
    assert (gated.computed, scheduler.runnable) == (6, False)
    gated.grant(5)
    assert not scheduler.runnable, "the answer's credit does not pay the prompt"
    gated.grant(0, 5)
    assert [(length, last) for _, length, last in scheduler.plan(at_most(64), 0.0).chunks] == [(4, True)]


def test_without_credit_an_answer_stands_still() -> None:
    scheduler = Scheduler(slots=2, cells=100)
    gated = sequence(1, 10, prefill=10, credit=2)
    started(scheduler, gated, sequence(2, most=30))
    seen = [shape(plan) for plan in (scheduler.plan(at_most(64), 0.0) for _ in range(4)) if take(scheduler, plan) == []]
    assert seen == [{1: 1, 2: 1}, {1: 1, 2: 1}, {2: 1}, {2: 1}]
    assert gated.output_length == 3
    gated.grant(1)
    assert shape(scheduler.plan(at_most(64), 0.0)) == {1: 1, 2: 1}


def test_an_unpaid_prompt_leaves_its_share_of_the_step_to_others() -> None:
    scheduler = Scheduler(slots=4, cells=5000)
    scheduler.submit(sequence(1, 1000, prefill=10))
    scheduler.submit(sequence(2, 1000, prefill=0))
    scheduler.submit(sequence(3, 300))
    scheduler.submit(sequence(4, 20))
    assert shape(scheduler.plan(at_most(64), 0.0)) == {1: 10, 3: 34, 4: 20}


def test_a_prompt_paid_in_slices_does_not_pass_for_a_short_one() -> None:
    scheduler = Scheduler(slots=4, cells=5000)
    scheduler.submit(sequence(1, 1000))
    scheduler.submit(sequence(2, 1000, prefill=30))
    scheduler.submit(sequence(3, 31))
    assert shape(scheduler.plan(at_most(64), 0.0)) == {1: 32, 2: 1, 3: 31}


def test_one_without_credit_does_not_hold_up_the_queue() -> None:
    scheduler = Scheduler(slots=1, cells=100)
    scheduler.submit(sequence(1, prefill=0))
    scheduler.submit(sequence(2))
    assert [it.number for it in scheduler.plan(at_most(64), 0.0).admitted] == [2]


def test_a_reader_that_stands_still_gives_its_slot_up_for_those_who_wait() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    still = sequence(1, 4, credit=1)
    started(scheduler, still)
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    scheduler.submit(sequence(2, 4))
    assert scheduler.plan(at_most(64), 1.0).admitted == ()
    assert scheduler.plan(at_most(64), 2.9).admitted == ()
    assert [it.number for it in scheduler.plan(at_most(64), 3.1).admitted] == [2]
    assert scheduler.waiting == (still,)


def test_an_unpaid_prompt_gives_its_slot_up_and_takes_none_before_it_is_paid_on() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    unpaid, other = sequence(1, 10, prefill=6, credit=0), sequence(2, 10, prefill=6, credit=0)
    scheduler.submit(unpaid)
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    scheduler.submit(other)
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    take(scheduler, scheduler.plan(at_most(64), 2.0))
    assert scheduler.running == (other,)
    for now in (4.0, 6.0, 8.0):
        plan = scheduler.plan(at_most(64), now)
        assert (plan.admitted, plan.chunks, scheduler.runnable) == ((), (), False), "they do not take turns for nothing"
    unpaid.grant(0, 4)
    assert shape(scheduler.plan(at_most(64), 9.0)) == {1: 10}, "what was paid for is recomputed, and the rest computed"
    assert scheduler.waiting == (other,)


def test_a_grant_that_does_not_reach_the_work_is_no_sign_of_life() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    unpaid = sequence(1, 10, prefill=6, credit=0)
    scheduler.submit(unpaid)
    for now in (0.0, 0.0, 1.0, 2.0):
        take(scheduler, scheduler.plan(at_most(64), now))
        unpaid.grant(1)
    scheduler.submit(sequence(2, 4))
    assert [it.number for it in scheduler.plan(at_most(64), 2.0).admitted] == [2]


def test_a_reader_that_stands_still_alone_keeps_its_slot() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    still = sequence(1, 4, credit=0)
    started(scheduler, still)
    scheduler.plan(at_most(64), 1.0)
    assert scheduler.plan(at_most(64), 99.0).requeued == ()
    assert still.slot is not None


def test_queue_is_bounded_beyond_the_free_slots() -> None:
    scheduler = Scheduler(slots=1, cells=100, queue_limit=2)
    for number in (1, 2, 3):
        scheduler.submit(sequence(number))
    with pytest.raises(QueueFullError):
        scheduler.submit(sequence(4))


def test_release_of_a_waiting_sequence_has_no_slot_to_forget() -> None:
    scheduler = Scheduler(slots=1, cells=100)
    waiting = sequence(1)
    scheduler.submit(waiting)
    assert scheduler.release(waiting) == ()
    assert scheduler.release(waiting) == ()
    assert not scheduler.runnable


# --- properties: a random life, checked at each step ------------------------------------------


@dataclass
class Life:
    """An engine's life: what arrives, is granted and cancelled before each step."""

    slots: int
    cells: int
    budget: int
    alive: dict[int, TokenSequence] = field(default_factory=dict)
    granted: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Positions of the answer and of the prompt that were paid for."""
    number: int = 0


class Arrive(NamedTuple):
    """A request comes."""

    prompt: int
    most: int
    of: ServiceClass
    credit: int
    prefill: int


class Grant(NamedTuple):
    """One of those alive may compute more."""

    which: int
    tokens: int
    prefill: int


class Leave(NamedTuple):
    """One of those alive is cancelled."""

    which: int


class Turn(NamedTuple):
    """The engine takes a step, so many seconds later."""

    seconds: int


grants = st.one_of(st.just(UNLIMITED), st.integers(0, 60))
stories = st.lists(
    st.one_of(
        st.builds(Arrive, st.integers(1, 39), st.integers(1, 70), st.sampled_from(ServiceClass), grants, grants),
        st.builds(Grant, st.integers(0, 9), st.integers(0, 30), st.integers(0, 30)),
        st.builds(Leave, st.integers(0, 9)),
        st.builds(Turn, st.integers(0, 3)),
        st.builds(Turn, st.integers(0, 3)),
    ),
    max_size=80,
)


def arrive(life: Life, scheduler: Scheduler, what: Arrive) -> None:
    life.number += 1
    paid = {"credit": what.credit, "prefill": what.prefill}
    it = sequence(life.number, what.prompt, of=what.of, most=what.most, limit=life.cells, **paid)
    scheduler.submit(it)
    life.alive[it.number] = it
    life.granted[it.number] = (what.credit, what.prefill)


def grant(life: Life, it: TokenSequence, tokens: int, prefill: int) -> None:
    it.grant(tokens, prefill)
    before = life.granted[it.number]
    life.granted[it.number] = (before[0] + tokens, before[1] + prefill)


def check(life: Life, scheduler: Scheduler, plan: Plan) -> None:
    """What must hold of every plan."""
    decoding = [it for it, _, _ in plan.chunks if it.decoding]
    prefill = sum(length for it, length, _ in plan.chunks if not it.decoding)
    assert prefill <= max(0, life.budget - len(decoding)), "over budget"
    assert sum(len(it.tokens) for it in scheduler.running) <= life.cells, "over the cells"
    slots = [it.slot for it in scheduler.running]
    assert len(set(slots)) == len(slots) <= life.slots, "a slot twice"
    planned = {it.number for it, _, _ in plan.chunks}
    starving = [it for it in scheduler.running if it.decoding and it.allowance > 0 and it.number not in planned]
    assert not starving, "a running stream without its token"
    idle = [it for it in scheduler.running if it.fresh == 0 and it.allowance > 0]
    assert not idle, "a slot for what brings nothing new"
    for it, length, last in plan.chunks:
        assert 0 < length <= it.allowance
        assert last == (length == it.pending)


def check_credit(life: Life) -> None:
    for number, it in life.alive.items():
        answer, prompt = life.granted[number]
        if it.credit != UNLIMITED:
            assert it.charged - it.prompt_length <= answer, "more of the answer than was granted"
        if it.prefill != UNLIMITED:
            assert min(it.charged, it.prompt_length) <= prompt, "more of the prompt than was granted"


def step(life: Life, scheduler: Scheduler, now: float) -> None:
    plan = scheduler.plan(at_most(life.budget), now)
    check(life, scheduler, plan)
    for number in take(scheduler, plan):
        del life.alive[number]
    check_credit(life)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(52, 120), st.integers(1, 40), stories)
def test_whatever_happens(slots: int, cells: int, budget: int, story: list[Arrive | Grant | Leave | Turn]) -> None:
    life, scheduler = Life(slots, cells, max(budget, slots + 1)), Scheduler(slots=slots, cells=cells, patience_s=2.0)
    now = 0.0
    for what in story:
        numbers = sorted(life.alive)
        if isinstance(what, Arrive):
            arrive(life, scheduler, what)
        elif isinstance(what, Turn):
            now += what.seconds
            step(life, scheduler, now)
        elif numbers and isinstance(what, Grant):
            grant(life, life.alive[numbers[what.which % len(numbers)]], what.tokens, what.prefill)
        elif numbers:
            scheduler.release(life.alive.pop(numbers[what.which % len(numbers)]))
    assert {it.number for it in (*scheduler.running, *scheduler.waiting)} == set(life.alive)
    finish(life, scheduler, now)


def finish(life: Life, scheduler: Scheduler, now: float) -> None:
    """Given credit and time, everything ends: nobody is starved, nothing is lost."""
    for it in life.alive.values():
        grant(life, it, 10_000, 10_000)
    for _ in range(10_000):
        if not life.alive:
            break
        now += 1.0
        step(life, scheduler, now)
    assert not life.alive
    assert scheduler.used == 0


@given(st.lists(st.sampled_from(ServiceClass), min_size=1, max_size=12))
def test_classes_are_served_in_order(classes: list[ServiceClass]) -> None:
    scheduler = Scheduler(slots=1, cells=100)
    for number, of in enumerate(classes):
        scheduler.submit(sequence(number, 4, of=of, most=2))
    finished: list[int] = []
    while scheduler.runnable:
        finished += take(scheduler, scheduler.plan(at_most(64), 0.0))
    assert finished == sorted(range(len(classes)), key=lambda number: (classes[number], number))
