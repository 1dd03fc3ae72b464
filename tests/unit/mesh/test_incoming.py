"""When a peer's request has taken too long, and who is remembered to owe."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.domain import FIRST_TOKEN_S
from meshnode.errors import DeadlineExceeded, PaymentRequired
from meshnode.events import Failed, Started, TextDelta
from meshnode.mesh.admission import LONGEST_DEADLINE_S, Limits, Places
from meshnode.mesh.incoming import (
    BODY_PAUSE_S,
    BODY_S,
    FORGOTTEN_S,
    MOST_DEBTORS,
    MOST_TAILS,
    PAY_S,
    READ_S,
    Debts,
    Incoming,
)
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from meshnode.wire.messages import Ask, Mark
from tests.kit.offers import terms
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.puppet import calling
from tests.kit.requests import endless, prompt
from tests.kit.serving import REQUEST, Scene, begun, closes, gather, open_serving


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


# --- as callers meet it -------------------------------------------------------------------------


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    """On a virtual clock."""
    async with open_serving() as opened:
        yield opened


async def test_who_owes_too_much_is_asked_to_pay_first(autojump_clock: MockClock, scene: Scene) -> None:
    short = endless("hi", model="a", tokens=2)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        for number in range(1, 65):  # as many as it may run
            await puppet.say(puppet.ask(number, terms(BOB, short)))
            assert await puppet.hear() == m.Accept(number)
            await puppet.say(puppet.body(number, short))
            await gather(puppet, closes)
        await puppet.say(puppet.ask(65, terms(BOB, short)))
        refused = await puppet.hear()
        assert isinstance(refused, m.Refuse)
        assert refused.code == "insufficient_credits"


async def test_who_does_not_pay_loses_its_place(autojump_clock: MockClock, scene: Scene) -> None:
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await begun(puppet)
        began = trio.current_time()
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert closing.code == "insufficient_credits"
        assert PAY_S <= trio.current_time() - began <= PAY_S + 5
        assert scene.bob.places.held == 0
    assert not scene.bob.violations


async def test_who_sends_no_body_loses_its_place(autojump_clock: MockClock, scene: Scene) -> None:
    large = terms(BOB, REQUEST, body_bytes=8 << 20)
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        for number in (1, 2):
            await puppet.say(puppet.ask(number, large))
            assert await puppet.hear() == m.Accept(number)
        await puppet.say(puppet.ask(3, large))
        assert isinstance(await puppet.hear(), m.Refuse)  # its share of what may be on its way
        assert scene.bob.provider is not None
        assert scene.bob.provider.bodies == 16 << 20
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert closing.code == "deadline_exceeded"
        await trio.sleep(5)
        assert (scene.bob.places.held, scene.bob.provider.bodies) == (0, 0)


async def test_who_comes_back_again_and_again_without_paying_is_asked_to_pay(
    autojump_clock: MockClock, scene: Scene
) -> None:
    short = endless("hi", model="a", tokens=2)
    answers, refused = 0, ""
    for _ in range(12):
        async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
            await puppet.greet()
            for number in range(1, 8):
                await puppet.say(puppet.ask(number, terms(BOB, short)))
                said = await puppet.hear()
                if isinstance(said, m.Refuse):
                    refused = said.code
                    break
                await puppet.say(puppet.body(number, short))
                await gather(puppet, closes)
                answers += 1
    assert refused == "insufficient_credits"
    assert answers <= MOST_TAILS + 8


async def test_a_peer_has_its_share_of_places(autojump_clock: MockClock, scene: Scene) -> None:
    scene.bob.places.__init__(Limits(per_peer=1, requests=2))  # type: ignore[misc]  # the kitchen holds this object
    async with (
        calling(ALICE, scene.alice, BOB.peer_id) as puppet,
        calling(CAROL, scene.carol, BOB.peer_id) as other,
    ):
        await begun(puppet)
        await puppet.say(puppet.ask(2, terms(BOB, REQUEST)))
        while not isinstance(refused := await puppet.hear(), m.Refuse):
            pass
        assert (refused.code, refused.retry_after_ms) == ("rate_limit_exceeded", 1000)
        await begun(other)  # nobody else is kept out by it
    await scene.bob.provider.quiet() if scene.bob.provider else None
    assert scene.bob.places.held == 0
    assert Places(Limits()).held == 0


@pytest.mark.parametrize(
    ("deadline", "after"),
    [(60.0, 60.0), (LONGEST_DEADLINE_S, FIRST_TOKEN_S)],
    ids=["its own", "that of a first token, for a caller without one"],
)
async def test_a_deadline_ends_what_does_not_begin(
    autojump_clock: MockClock, scene: Scene, deadline: float, after: float
) -> None:
    scene.bob.stable.load_s = 10_000
    async with calling(ALICE, scene.alice, BOB.peer_id) as puppet:
        await puppet.greet()
        await puppet.say(puppet.ask(1, terms(BOB, REQUEST, deadline_ms=round(1000 * deadline))))
        assert await puppet.hear() == m.Accept(1)
        began = trio.current_time()
        await puppet.say(puppet.body(1, REQUEST))
        closing = (await gather(puppet, closes))[-1]
        assert isinstance(closing, Failed)
        assert closing.code == "deadline_exceeded"
        assert trio.current_time() - began == pytest.approx(after, abs=1)
        assert scene.bob.places.held == 0
