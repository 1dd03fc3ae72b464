"""When a peer's request has taken too long, and who is remembered to owe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import DeadlineExceeded, PaymentRequired
from meshnode.events import Started, TextDelta
from meshnode.mesh.incoming import (
    BODY_PAUSE_S,
    BODY_S,
    FORGOTTEN_S,
    MOST_DEBTORS,
    PAY_S,
    READ_S,
    Debts,
    Incoming,
)
from meshnode.wire.canonical import encode
from meshnode.wire.messages import Ask, Mark
from tests.kit.offers import terms
from tests.kit.peers import BOB
from tests.kit.requests import prompt


def incoming(credit: int = 256, *, whole: bool = True) -> Incoming:
    """One request, asked at 0."""
    made = Incoming(Ask(1, encode(terms(BOB, prompt(model="a"))), bytes(64), credit), 0.0)
    if whole:
        made.add(bytes(made.terms.body_bytes), 0.0)
    return made


def say(one: Incoming, tokens: int) -> None:
    """Deliver so many tokens."""
    one.tab.take(TextDelta("x" * tokens, 0, tuple(range(tokens))))


def test_a_body_may_take_its_time_but_not_stand_still() -> None:
    one = incoming(whole=False)
    assert one.overdue(BODY_PAUSE_S) is None
    one.add(b"x", BODY_PAUSE_S)
    assert one.overdue(2 * BODY_PAUSE_S) is None
    assert isinstance(one.overdue(2 * BODY_PAUSE_S + 1), DeadlineExceeded)


def test_a_body_that_trickles_is_given_up_in_the_end() -> None:
    one, now = incoming(whole=False), 0.0
    while now <= BODY_S:
        one.add(b"", now)
        assert one.overdue(now) is None
        now += BODY_PAUSE_S / 2
    one.add(b"", BODY_S + 1)
    assert isinstance(one.overdue(BODY_S + 1), DeadlineExceeded)


def test_who_owes_nothing_may_wait_for_ever() -> None:
    one = incoming()
    one.tab.take(Started(6))
    assert one.overdue(10_000.0) is None


def test_who_owes_must_pay_something_now_and_then() -> None:
    one = incoming()
    one.tab.take(Started(6))
    say(one, 10)
    assert one.overdue(5.0) is None
    one.tab.settle(Mark(1, 6, 0, 4))
    assert one.overdue(5.0 + PAY_S) is None
    assert isinstance(one.overdue(5.0 + 2 * PAY_S + 1), PaymentRequired)
    one.tab.settle(Mark(1, 6, 0, 10))
    assert one.overdue(1000.0) is None


def test_who_does_not_read_loses_its_place_in_the_end() -> None:
    one = incoming(credit=20)
    one.tab.take(Started(6))
    say(one, 10)
    one.tab.settle(Mark(1, 6, 0, 10))
    assert one.overdue(1.0) is None
    assert isinstance(one.overdue(2.0 + READ_S), DeadlineExceeded)
    one.tab.grant(100)
    assert one.overdue(3.0 + READ_S) is None


def test_debts_are_forgotten_one_by_one() -> None:
    debts = Debts()
    debts.note(b"a", 3, 0.0)
    debts.note(b"a", 0, 0.0)
    assert (debts.count(b"a", 0.0), debts.count(b"b", 0.0)) == (3.0, 0.0)
    assert debts.count(b"a", FORGOTTEN_S) == 2.0
    debts.note(b"a", 5, FORGOTTEN_S)
    assert debts.count(b"a", FORGOTTEN_S) == 7.0
    assert debts.count(b"a", 100 * FORGOTTEN_S) == 0.0


@given(st.lists(st.integers(0, 10_000), max_size=200))
def test_no_more_debtors_are_remembered_than_fit(keys: list[int]) -> None:
    debts = Debts()
    for number in range(MOST_DEBTORS - 100):
        debts.note(f"old {number}".encode(), 1, 0.0)
    for key in keys:
        debts.note(str(key).encode(), 1, 0.0)
    assert all(debts.count(str(key).encode(), 0.0) >= 1 for key in keys[-100:])
    assert len(debts._tails) <= MOST_DEBTORS
