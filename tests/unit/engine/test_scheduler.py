"""Who is served, when, and with how much: on the pure scheduler, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import ServiceClass, Stopping
from meshnode.engine.pipe import UNLIMITED
from meshnode.engine.scheduler import Plan, QueueFullError, Scheduler
from meshnode.engine.sequence import TokenSequence

OWNER, NEWCOMER = ServiceClass.OWNER, ServiceClass.NEWCOMER


def sequence(
    number: int,
    prompt: int = 4,
    *,
    of: ServiceClass = OWNER,
    credit: int = UNLIMITED,
    most: int | None = None,
    limit: int = 1000,
) -> TokenSequence:
    """A sequence with a prompt of so many tokens."""
    stopping = Stopping(max_tokens=most)
    return TokenSequence(number, [0] * prompt, limit=limit, stopping=stopping, credit=credit, service_class=of)


def at_most(tokens: int) -> Callable[[int], int]:
    """A budget that does not change."""
    return lambda decoding: max(0, tokens - decoding)


def take(scheduler: Scheduler, plan: Plan) -> list[int]:
    """Do what the plan says with an engine that always draws token 1; numbers of those that finished."""
    finished = []
    for it, length, last in plan.chunks:
        it.advance(length)
        if last and it.accept(1, ends_generation=False) is not None:
            scheduler.release(it)
            finished.append(it.number)
    return finished


def shape(plan: Plan) -> dict[int, int]:
    """How many tokens of which request."""
    return {it.number: length for it, length, _ in plan.chunks}


def started(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    """Let these sequences run until each decodes."""
    for it in sequences:
        scheduler.submit(it)
    while not all(it.decoding for it in sequences):
        take(scheduler, scheduler.plan(at_most(512), 0.0))


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
    assert len(plan.freed) == 1


def test_strangers_do_not_take_each_others_slots() -> None:
    scheduler = Scheduler(slots=1, cells=400)
    started(scheduler, sequence(1, of=ServiceClass.LEFTOVER))
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
    assert scheduler.release(scheduler.running[0]) is not None
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


def test_without_credit_nothing_is_computed() -> None:
    scheduler = Scheduler(slots=2, cells=100)
    gated = sequence(1, 10, credit=6)
    scheduler.submit(gated)
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    assert (gated.computed, scheduler.runnable) == (6, False)
    gated.grant(5)
    assert shape(scheduler.plan(at_most(64), 0.0)) == {1: 4}


def test_one_without_credit_does_not_hold_up_the_queue() -> None:
    scheduler = Scheduler(slots=1, cells=100)
    scheduler.submit(sequence(1, credit=0))
    scheduler.submit(sequence(2))
    assert [it.number for it in scheduler.plan(at_most(64), 0.0).admitted] == [2]


def test_a_reader_that_stands_still_gives_its_slot_up_for_those_who_wait() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    still = sequence(1, 4, credit=5)
    started(scheduler, still)
    take(scheduler, scheduler.plan(at_most(64), 0.0))
    scheduler.submit(sequence(2, 4))
    assert scheduler.plan(at_most(64), 1.0).admitted == ()
    assert scheduler.plan(at_most(64), 2.9).admitted == ()
    assert [it.number for it in scheduler.plan(at_most(64), 3.1).admitted] == [2]
    assert scheduler.waiting == (still,)


def test_a_reader_that_stands_still_alone_keeps_its_slot() -> None:
    scheduler = Scheduler(slots=1, cells=100, patience_s=2.0)
    still = sequence(1, 4, credit=4)
    started(scheduler, still)
    scheduler.plan(at_most(64), 1.0)
    assert scheduler.plan(at_most(64), 99.0).freed == ()
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
    assert scheduler.release(waiting) is None
    assert scheduler.release(waiting) is None
    assert not scheduler.runnable


# --- properties: a random life, checked at each step ------------------------------------------


@dataclass
class Life:
    """An engine's life: what arrives, is granted and cancelled before each step."""

    slots: int
    cells: int
    budget: int
    alive: dict[int, TokenSequence] = field(default_factory=dict)
    granted: dict[int, int] = field(default_factory=dict)
    number: int = 0


class Arrive(NamedTuple):
    """A request comes."""

    prompt: int
    most: int
    of: ServiceClass
    credit: int


class Grant(NamedTuple):
    """One of those alive may compute more."""

    which: int
    tokens: int


class Leave(NamedTuple):
    """One of those alive is cancelled."""

    which: int


class Turn(NamedTuple):
    """The engine takes a step, so many seconds later."""

    seconds: int


grants = st.one_of(st.just(UNLIMITED), st.integers(0, 60))
stories = st.lists(
    st.one_of(
        st.builds(Arrive, st.integers(1, 39), st.integers(1, 70), st.sampled_from(ServiceClass), grants),
        st.builds(Grant, st.integers(0, 9), st.integers(1, 30)),
        st.builds(Leave, st.integers(0, 9)),
        st.builds(Turn, st.integers(0, 3)),
        st.builds(Turn, st.integers(0, 3)),
    ),
    max_size=80,
)


def arrive(life: Life, scheduler: Scheduler, what: Arrive) -> None:
    life.number += 1
    it = sequence(life.number, what.prompt, of=what.of, credit=what.credit, most=what.most, limit=life.cells)
    scheduler.submit(it)
    life.alive[it.number] = it
    life.granted[it.number] = what.credit


def grant(life: Life, it: TokenSequence, tokens: int) -> None:
    it.grant(tokens)
    if it.credit != UNLIMITED:
        life.granted[it.number] += tokens


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
    for it, length, last in plan.chunks:
        assert 0 < length <= it.allowance
        assert last == (length == it.pending)


def check_credit(life: Life) -> None:
    for number, it in life.alive.items():
        if life.granted[number] != UNLIMITED:
            assert it.charged <= life.granted[number], "more than was granted"


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
            grant(life, life.alive[numbers[what.which % len(numbers)]], what.tokens)
        elif numbers:
            scheduler.release(life.alive.pop(numbers[what.which % len(numbers)]))
    assert {it.number for it in (*scheduler.running, *scheduler.waiting)} == set(life.alive)
    finish(life, scheduler, now)


def finish(life: Life, scheduler: Scheduler, now: float) -> None:
    """Given credit and time, everything ends: nobody is starved, nothing is lost."""
    for it in life.alive.values():
        grant(life, it, 10_000)
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
