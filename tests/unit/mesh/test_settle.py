"""When a caller pays and how far a provider goes on trust: examples, and both ends on the same events."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation
from meshnode.events import Event, Failed, Finished, Heartbeat, Prefilling, Started, TextDelta, Usage
from meshnode.ledger.book import Totals
from meshnode.mesh.settle import SLICE, TICK_S, TICK_TOKENS, WINDOW, Bill, Tab
from meshnode.wire.fields import Prices
from meshnode.wire.messages import Mark

PRICES = Prices(10, 2, 80, 2000)


def said(tokens: int = 1) -> TextDelta:
    """Text of so many tokens."""
    return TextDelta("x" * tokens, 0, tuple(range(tokens)))


def bill(*events: Event, now: float = 100.0) -> Bill:
    """A caller's side after these events."""
    made = Bill(1, PRICES)
    for event in events:
        made.note(event, now)
    return made


def test_nothing_is_due_before_anything_came() -> None:
    assert bill(Started(10), Heartbeat()).due_at() is None


def test_the_first_token_is_due_within_a_tick() -> None:
    assert bill(Started(10), said()).due_at() == 100.0 + TICK_S


def test_enough_tokens_are_due_at_once() -> None:
    assert bill(Started(10), said(TICK_TOKENS - 1)).due_at() == 100.0 + TICK_S
    assert bill(Started(10), said(TICK_TOKENS)).due_at() == -math.inf


def test_a_slice_of_a_long_prompt_is_due_at_once_and_urgent() -> None:
    made = bill(Started(3 * SLICE), Prefilling(SLICE, 3 * SLICE))
    assert made.due_at() == -math.inf
    assert made.urgent
    assert made.pay() == (Mark(1, SLICE, 0, 0), Totals(uc=SLICE * 10, prompt=SLICE, requests=1))


def test_the_end_is_due_at_once_and_then_nothing_is() -> None:
    made = bill(Started(10), said(3), Finished(Usage(prompt_tokens=10, completion_tokens=3)))
    assert made.due_at() == -math.inf
    assert made.pay() == (Mark(1, 10, 0, 3), Totals(uc=2000, prompt=10, output=3, requests=1))
    assert (made.owes, made.due_at(), made.closed) == (False, None, True)


def test_the_floor_of_a_request_is_paid_once() -> None:
    made = bill(Started(10), said(3))
    assert made.pay()[1].uc == 2000
    made.note(said(3), 101.0)
    assert made.pay() == (Mark(1, 10, 0, 6), Totals(output=3))
    made.note(said(40), 102.0)
    assert made.pay()[1] == Totals(uc=10 * 10 + 46 * 80 - 2000, output=40)


def test_cached_tokens_cost_less() -> None:
    made = bill(Started(1000, 900), said())
    assert made.mark() == Mark(1, 100, 900, 1)
    assert made.pay()[1] == Totals(uc=100 * 10 + 900 * 2 + 80, prompt=1000, output=1, requests=1)


def test_a_failure_before_any_text_costs_nothing() -> None:
    made = bill(Started(10), Failed("worker_died", "x"))
    assert (made.owes, made.due_at()) == (False, None)


# --- the provider -------------------------------------------------------------------------------


def test_a_tab_begins_with_one_slice_and_one_window() -> None:
    tab = Tab(1, PRICES, 256)
    assert (tab.gate.prefill, tab.gate.decode) == (SLICE, WINDOW - 1)


def test_little_credit_holds_an_answer_back_more_than_payment() -> None:
    tab = Tab(1, PRICES, 10)
    assert tab.gate.decode == 9
    tab.grant(1000)
    assert tab.gate.decode == WINDOW - 1


def test_a_tab_opens_only_when_what_was_paid_is_stored() -> None:
    tab = Tab(1, PRICES, 1000)
    for event in (Started(10), said(32)):
        tab.take(event)
    assert tab.credited(Mark(1, 10, 0, 32)) == Totals(uc=10 * 10 + 32 * 80, prompt=10, output=32, requests=1)
    assert tab.gate.decode == WINDOW - 1
    tab.release()
    assert (tab.gate.prefill, tab.gate.decode) == (10 + SLICE, 32 + WINDOW - 1)


def test_credit_that_comes_while_a_tick_is_stored_does_not_open_a_tab_for_it() -> None:
    tab = Tab(1, PRICES, 1000)
    for event in (Started(10), said(40)):
        tab.take(event)
    tab.credited(Mark(1, 10, 0, 40))
    tab.grant(256)
    assert (tab.gate.prefill, tab.gate.decode) == (SLICE, WINDOW - 1)
    tab.release()
    assert (tab.gate.prefill, tab.gate.decode) == (10 + SLICE, 40 + WINDOW - 1)


@pytest.mark.parametrize("mark", [Mark(1, 10, 0, 33), Mark(1, 11, 0, 32), Mark(1, 10, 1, 32), Mark(1, 9, 0, 32)])
def test_no_tick_pays_for_more_than_was_delivered_or_takes_back(mark: Mark) -> None:
    tab = Tab(1, PRICES, 1000)
    for event in (Started(10), said(32)):
        tab.take(event)
    if mark == Mark(1, 9, 0, 32):
        tab.credited(Mark(1, 10, 0, 32))
    with pytest.raises(ProtocolViolation):
        tab.credited(mark)


EVENTS = st.lists(
    st.one_of(
        st.builds(said, st.integers(1, 40)),
        st.integers(1, 9000).map(lambda done: Prefilling(done, 9000)),
        st.just(Heartbeat()),
    ),
    max_size=40,
)


@given(EVENTS, st.lists(st.integers(0, 40), max_size=6))
def test_both_ends_come_to_the_same_amounts_whenever_they_settle(events: list[Event], moments: list[int]) -> None:
    caller, provider = Bill(1, PRICES), Tab(1, PRICES, 1 << 20)
    paid = earned = Totals()
    for number, event in enumerate([Started(9000), *events]):
        provider.take(event)
        caller.note(event, float(number))
        if number in moments and caller.owes:
            mark, more = caller.pay()
            paid, earned = paid.plus(more), earned.plus(provider.credited(mark))
            provider.release()
            assert provider.gate.decode <= mark.output + WINDOW
            assert provider.gate.prefill <= mark.prompt + SLICE
    if caller.owes:
        mark, more = caller.pay()
        paid, earned = paid.plus(more), earned.plus(provider.credited(mark))
    assert paid == earned
    assert not provider.owes
    assert paid.requests <= 1
