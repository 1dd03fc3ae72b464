"""The book on every database: what is signed and taken is on the disk, and only the newest receipt counts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from meshnode.errors import DiskFull, InternalFault
from meshnode.ledger.book import ALWAYS_SHOWN, SHOWN, ConsumerChannel, Totals
from meshnode.storage.database import Connection, open_inline
from meshnode.wire.canonical import encode
from meshnode.wire.fields import UINT
from meshnode.wire.receipt import NO_PREVIOUS, SignedReceipt, content, digest
from tests.kit.peers import ALICE, BOB
from tests.kit.receipts import (
    SOME,
    TODAY,
    C,
    P,
    Two,
    book,
    countersigned,
    dump,
    earned,
    meeting,
    receipt,
    sealed,
    spent,
    tick,
    times,
)


@pytest.fixture(params=["threaded", "inline"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Two]:
    async with meeting(request.param, tmp_path) as met:
        yield met


# --- paying ---------------------------------------------------------------------------------------


async def test_ticks_add_up_on_both_sides_and_a_countersignature_confirms_them(two: Two) -> None:
    for n in (1, 2, 3):
        await two.takes.take(await two.pays.pay(SOME), SOME)
        assert two.pays.total == two.takes.total == times(n)
    assert await spent(two.alice) == await earned(two.bob) == (3000, 3000)
    both = await two.takes.countersign()
    assert both is not None
    await two.pays.confirm(both)
    assert two.pays.confirmed == times(3)
    assert await spent(two.alice) == await earned(two.bob) == (3000, 0)
    assert await two.takes.countersign() is None


async def test_up_to_where_a_channel_is_countersigned_can_be_asked(two: Two) -> None:
    first = await two.pays.pay(SOME)
    key, chan = content(first).provider, content(first).chan
    assert await two.alice.confirmed(key, chan) == 0
    await two.takes.take(first, SOME)
    both = await two.takes.countersign()
    assert both is not None
    await two.pays.confirm(both)
    await two.pays.pay(SOME)
    assert await two.alice.confirmed(key, chan) == 1
    assert await two.alice.confirmed(key, chan + 1) == 0


async def test_receipts_of_a_channel_are_numbered_and_name_the_last_that_both_signed(two: Two) -> None:
    first = await two.pays.pay(SOME)
    await two.takes.take(first, SOME)
    both = await two.takes.countersign()
    assert both is not None
    await two.pays.confirm(both)
    one, other = content(first), content(await two.pays.pay(SOME))
    assert (one.seq, one.prev, one.day) == (1, NO_PREVIOUS, TODAY)
    assert (other.seq, other.prev, other.chan) == (2, digest(both), one.chan)


async def test_a_countersignature_that_is_late_still_confirms_what_it_covers(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    both = await two.takes.countersign()
    assert both is not None
    await two.pays.pay(SOME)
    await two.pays.confirm(both)
    assert (two.pays.total, two.pays.confirmed) == (times(2), times(1))
    assert await spent(two.alice) == (2000, 1000)
    await two.pays.confirm(both)
    assert await spent(two.alice) == (2000, 1000)


async def test_many_who_pay_at_once_share_one_channel(two: Two) -> None:
    again = await two.alice.consume(P, BOB.peer_id, ())
    made: list[SignedReceipt] = []

    async def pay(channel: ConsumerChannel) -> None:
        made.append(await channel.pay(SOME))

    async with trio.open_nursery() as nursery:
        for channel in (two.pays, again) * 5:
            nursery.start_soon(pay, channel)
    said = sorted((content(each) for each in made), key=lambda each: each.seq)
    assert [each.seq for each in said] == list(range(1, 11))
    assert len({each.chan for each in said}) == 1
    assert await spent(two.alice) == (10_000, 10_000)


@pytest.mark.parametrize("more", [Totals(), Totals(uc=-1, output=5), Totals(uc=UINT + 1)])
async def test_nobody_signs_for_nothing_or_for_less_or_for_more_than_there_is(two: Two, more: Totals) -> None:
    with pytest.raises(InternalFault):
        await two.pays.pay(more)
    assert await spent(two.alice) == (0, 0)


# --- a session that opens --------------------------------------------------------------------------


async def test_a_lost_tick_is_made_good_when_the_next_session_opens(two: Two) -> None:
    await two.pays.pay(SOME)
    takes = await two.bob.provide(C, ALICE.peer_id, await two.alice.newest("consumer", P))
    pays = await two.alice.consume(P, BOB.peer_id, await two.bob.newest("provider", C))
    assert pays.total == times(1)
    await takes.take(await pays.pay(SOME), SOME)
    assert takes.total == times(2)
    assert len((await two.bob.accounts()).channels) == 1


async def test_a_lost_countersignature_comes_with_the_next_session(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    assert await two.takes.countersign() is not None
    shown = await two.bob.newest("provider", C)
    assert [each.confirmed for each in shown] == [True]
    await two.alice.consume(P, BOB.peer_id, shown)
    assert await spent(two.alice) == (1000, 0)


@pytest.mark.parametrize("confirmed", [False, True])
async def test_a_provider_that_lost_its_database_learns_from_the_consumer(two: Two, confirmed: bool) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    if confirmed and (both := await two.takes.countersign()) is not None:
        await two.pays.confirm(both)
    await two.pays.pay(SOME)
    async with open_inline() as empty:
        bob = book(empty, BOB)
        takes = await bob.provide(C, ALICE.peer_id, await two.alice.newest("consumer", P))
        assert await earned(bob) == (2000, 1000 if confirmed else 2000)
        assert await takes.countersign() is not None
        assert await earned(bob) == (2000, 0)
        await takes.take(await two.pays.pay(SOME), SOME)


async def test_a_consumer_that_lost_its_database_learns_from_the_provider_and_signs_elsewhere(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    async with open_inline() as empty:
        alice = book(empty, ALICE, seed=5)
        pays = await alice.consume(P, BOB.peer_id, await two.bob.newest("provider", C))
        assert await spent(alice) == (1000, 1000)
        await two.takes.take(await pays.pay(SOME), SOME)
        assert await spent(alice) == await earned(two.bob) == (2000, 2000)
        assert (await alice.totals("consumer", P), await two.bob.totals("provider", C)) == (times(2), times(2))
        assert len({view.chan for view in (await alice.accounts()).channels}) == 2


async def test_after_a_restart_old_channels_count_and_a_new_one_is_signed_on(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    alice = book(two.alices, ALICE, seed=5)
    pays = await alice.consume(P, BOB.peer_id, await two.bob.newest("provider", C))
    assert pays.total == Totals()
    later = await pays.pay(SOME)
    await two.takes.take(later, SOME)
    assert content(later).seq == 1
    assert await earned(two.bob) == await spent(alice) == (2000, 2000)


async def test_what_is_left_unsigned_of_older_channels_is_countersigned_too(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    pays = await book(two.alices, ALICE, seed=5).consume(P, BOB.peer_id, ())
    latest = await pays.pay(SOME)
    await two.takes.take(latest, SOME)
    signed = [await two.takes.countersign(), await two.takes.countersign()]
    assert signed[0] == countersigned(latest)
    for both in signed:
        assert both is not None
        await pays.confirm(both)
    assert await two.takes.countersign() is None
    assert await spent(two.alice) == await earned(two.bob) == (2000, 0)


async def test_as_much_is_shown_as_fits_and_the_channel_in_use_first(two: Two) -> None:
    first = await two.pays.pay(SOME)
    others = [tick(receipt(chan=chan)) for chan in range(40)]
    for start in range(0, 40, 8):
        await two.alice.consume(P, BOB.peer_id, others[start : start + 8])
    seen: set[int] = set()
    for _ in range(60):
        shown = await two.alice.newest("consumer", P)
        assert len(shown) == SHOWN
        assert shown[0] == first
        latest = [content(each).chan for each in shown[1:ALWAYS_SHOWN]]
        assert latest == [32, 33, 34]
        seen |= {content(each).chan for each in shown[1:]}
    assert seen == set(range(40))
    assert await two.alice.newest("provider", P) == ()


async def test_the_newest_of_six_receipts_wins_however_they_are_delivered(two: Two) -> None:
    six = [tick(receipt(seq, times(seq))) for seq in (1, 2, 3, 5, 8, 13)]
    for number, order in enumerate(itertools.permutations(range(6))):
        if number % 24:
            continue
        moved = [sealed(encode(receipt(content(six[i]).seq, times(content(six[i]).seq), chan=number))) for i in order]
        before = await earned(two.bob)
        for one in moved:
            await two.bob.provide(C, ALICE.peer_id, [one])
            now = await earned(two.bob)
            assert now >= before
            before = now
    assert await earned(two.bob) == (30 * 13_000, 30 * 13_000)


# --- disks and clocks -------------------------------------------------------------------------------


async def test_on_a_full_disk_nothing_is_paid_and_nothing_taken(two: Two) -> None:
    await two.takes.take(await two.pays.pay(SOME), SOME)
    before = await two.alices.read(dump), await two.bobs.read(dump)
    lost = tick(receipt())
    two.alices.full = two.bobs.full = True
    for attempt in (lambda: two.pays.pay(SOME), lambda: two.takes.take(lost, SOME), two.takes.countersign):
        with pytest.raises(DiskFull):
            await attempt()
    assert (await two.alices.read(dump), await two.bobs.read(dump)) == before
    assert two.pays.total == two.takes.total == times(1)
    two.alices.full = two.bobs.full = False
    await two.takes.take(await two.pays.pay(SOME), SOME)
    assert await spent(two.alice) == await earned(two.bob) == (2000, 2000)


async def test_a_database_that_may_not_grow_is_a_full_disk(two: Two) -> None:
    def cap(connection: Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await two.alices.write(cap)
    paid = 0
    for seed in range(100):
        pays = await book(two.alices, ALICE, seed=seed + 10).consume(P, BOB.peer_id, ())
        before = await two.alices.read(dump)
        try:
            await pays.pay(SOME)
        except DiskFull:
            break
        paid += 1
    assert 0 < paid < 100
    assert await two.alices.read(dump) == before
    assert await spent(two.alice) == (1000 * paid, 1000 * paid)


@pytest.mark.parametrize("skew", [-3650, 3650, -(2**40), 2**40])
async def test_no_clock_changes_a_balance(two: Two, skew: int) -> None:
    alice = book(two.alices, ALICE, day=TODAY + skew)
    pays = await alice.consume(P, BOB.peer_id, ())
    for _ in range(3):
        await two.takes.take(await pays.pay(SOME), SOME)
    both = await two.takes.countersign()
    assert both is not None
    await pays.confirm(both)
    back = book(two.alices, ALICE)
    await back.consume(P, BOB.peer_id, await two.bob.newest("provider", C))
    assert await spent(back) == await earned(two.bob) == (3000, 0)
