"""What a subscriber is told and when, on a virtual clock; and what becomes of one that breaks the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.domain import PeerId
from meshnode.errors import StreamReset
from meshnode.identity import Identity, network_tag
from meshnode.mesh.offers import Voucher
from meshnode.mesh.telling import PACE_S, RENEW_S, SLOW_S, SUBSCRIBE_S, Reader, frames_of
from meshnode.net.memory import MemoryHost, MemoryNetwork
from meshnode.net.transport import Stream
from meshnode.wire.frames import pack
from meshnode.wire.offer import (
    FRAME,
    IN_ONE_FRAME,
    LONGEST,
    PROTOCOL,
    REFRESH_S,
    Passed,
    SignedOffer,
    Subscribe,
    Told,
    Wrong,
    decode_message,
)
from tests.kit.offer_streams import SUBSCRIBE, Heard, framed, saying, silent, trickle
from tests.kit.offers import NETWORK, model_offer, offer
from tests.kit.peers import ALICE, BOB, identity
from tests.kit.streams import read_all
from tests.kit.tellers import WALL_S, Teller, connected, signed

# --- what a reader is told: the rules -------------------------------------------------------------


def voucher(
    who: Identity, *, issued: int = 1, revision: int = 1, left_s: float = 120.0, there: bool = False
) -> Voucher:
    """An offer to pass on."""
    return Voucher(who.peer_id, issued, revision, left_s, there, Passed(SignedOffer(b"x", bytes(64)), 0))


OWN = Passed(SignedOffer(b"own", bytes(64)), 0)


def news(reader: Reader, *vouchers: Voucher, now: float, own: int = 1) -> tuple[list[Passed], list[PeerId]]:
    """What is told now, when those are the peers vouched for."""
    return reader.news(OWN, own, frozenset(each.peer for each in vouchers), vouchers, now)


def test_each_thing_is_told_once() -> None:
    reader = Reader()
    bob = voucher(BOB)
    assert news(reader, bob, now=0.0) == ([OWN, bob.passed], [])
    assert news(reader, bob, now=1.0) == ([], [])
    assert news(reader, bob, now=2.0, own=2) == ([OWN], [])
    assert news(reader, now=3.0, own=2) == ([], [BOB.peer_id])
    assert news(reader, now=4.0, own=2) == ([], [])


def test_a_change_of_load_is_passed_on_only_before_the_offer_is_over_there() -> None:
    reader = Reader()
    news(reader, voucher(BOB, issued=1), now=0.0)
    later = voucher(BOB, issued=2)
    assert news(reader, later, now=120.0 - RENEW_S - 1)[0] == []
    assert news(reader, voucher(BOB, issued=1), now=120.0 - RENEW_S)[0] == []
    assert news(reader, later, now=120.0 - RENEW_S)[0] == [later.passed]
    assert news(reader, voucher(BOB, issued=3, revision=3), now=121.0 - RENEW_S)[0] != []


def test_a_reader_that_vouches_itself_is_told_once_that_we_do_too() -> None:
    reader = Reader()
    news(reader, now=0.0)
    assert len(news(reader, voucher(BOB, there=True), now=1.0)[0]) == 1
    assert news(reader, voucher(BOB, issued=2, revision=2, there=True), now=119.0) == ([], [])
    assert len(news(reader, voucher(BOB, issued=2, revision=2), now=119.0)[0]) == 1
    assert news(reader, now=120.0) == ([], [BOB.peer_id])


def test_what_is_not_told_though_vouched_for_is_not_withdrawn() -> None:
    reader = Reader()
    news(reader, voucher(BOB), now=0.0)
    assert reader.news(OWN, 1, frozenset([BOB.peer_id]), (), 1.0) == ([], [])


@given(
    st.lists(st.integers(0, LONGEST), max_size=600).map(lambda sizes: sizes[:40] + [min(s, 900) for s in sizes[40:]]),
    st.integers(0, 2500),
)
def test_frames_hold_everything_within_their_bounds(sizes: list[int], gone: int) -> None:
    passed = [Passed(SignedOffer(bytes([n % 256]) * size, bytes(64)), (1 << 32) - 1) for n, size in enumerate(sizes)]
    names = [PeerId(f"{number:0200}") for number in range(gone)]
    told = []
    for frame in frames_of(passed, names):
        assert len(frame) <= FRAME + 4
        message = decode_message(frame[4:])
        assert isinstance(message, Told)
        told.append(message)
    assert [each for message in told for each in message.offers] == passed
    assert [each for message in told for each in message.gone] == names
    assert told
    assert all(len(message.offers) <= IN_ONE_FRAME for message in told)


# --- telling --------------------------------------------------------------------------------------


async def test_a_subscriber_is_told_at_once_then_of_changes_and_that_we_are_there(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        began = trio.current_time()
        await stream.write(framed(SUBSCRIBE))
        told = Heard(stream)
        at, first = await told.next()
        assert at - began < 0.1
        assert [each.offer for each in first.offers] == [alice.announcer.current().offer]
        await trio.sleep(3)
        changed = trio.current_time()
        alice.shelf.put("b:q8_0")
        at, second = await told.next()
        assert at - changed < 1.5
        assert len(second.offers) == 1
        at, third = await told.next()
        assert third == Told(offers=())
        assert at - changed == pytest.approx(REFRESH_S, abs=1.5)


async def test_changes_are_told_together(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.write(framed(SUBSCRIBE))
        told = Heard(stream)
        await told.next()
        for number in range(20):
            who = identity(f"peer {number}")
            provider = signed(who, offer(who, model_offer(), issued_ms=round(1000 * WALL_S)))
            alice.book.take(provider, source=who.peer_id, now=trio.current_time(), wall_ms=0)
            await trio.sleep(PACE_S / 40)
        counts = [len((await told.next())[1].offers)]
        while sum(counts) < 20:
            counts.append(len((await told.next())[1].offers))
        assert len(counts) <= 2


async def test_what_an_idle_connection_costs(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    size = count = 0
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.write(framed(SUBSCRIBE))
        told, until = Heard(stream), trio.current_time() + 1800
        while trio.current_time() < until:
            size += len(framed((await told.next())[1]))
            count += 1
    assert count / 30 < 3
    assert size / 30 < 800


async def test_a_reader_that_does_not_read_is_dropped(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    for number in range(30):  # more than a stream holds
        who = identity(f"peer {number}")
        models = [model_offer(f"{n}:{'x' * 180}") for n in range(40)]
        provider = signed(who, offer(who, *models, issued_ms=round(1000 * WALL_S)))
        alice.book.take(provider, source=who.peer_id, now=trio.current_time(), wall_ms=0)
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.write(framed(SUBSCRIBE))
        await trio.sleep(SLOW_S - 1)
        assert BOB.peer_id in alice.tidings._telling.readers
        await trio.sleep(2)
        assert BOB.peer_id not in alice.tidings._telling.readers
        with pytest.raises(StreamReset):
            await read_all(stream)
    assert alice.violations == []


async def test_a_newer_subscription_replaces_the_older(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as older:
        await older.write(framed(SUBSCRIBE))
        assert await older.read()
        async with bob.open_stream(ALICE.peer_id, PROTOCOL) as newer:
            await newer.write(framed(SUBSCRIBE))
            assert await newer.read()
            with pytest.raises(StreamReset):
                await older.read()
            alice.shelf.put("b:q8_0")
            assert await newer.read()
            assert len(alice.tidings._telling.readers) == 1


@pytest.mark.parametrize(
    ("subscribe", "reason", "blamed"),
    [
        (Subscribe(version=0, network=NETWORK), "version", False),
        (Subscribe(version=1, network=network_tag("other", None)), "network", True),
    ],
)
async def test_who_wants_something_else_is_told_so(
    autojump_clock: MockClock,
    network: MemoryNetwork,
    alice: Teller,
    bob: MemoryHost,
    subscribe: Subscribe,
    reason: str,
    blamed: bool,
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.write(framed(subscribe))
        assert decode_message((await stream.read())[4:]) == Wrong(reason=reason)
        assert await stream.read() == b""
    assert bool(alice.violations) == blamed


@pytest.mark.parametrize("behave", [silent, trickle])
async def test_a_caller_that_is_slow_is_reset_and_not_blamed(
    autojump_clock: MockClock,
    network: MemoryNetwork,
    alice: Teller,
    bob: MemoryHost,
    behave: Callable[[Stream], Awaitable[None]],
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        with trio.fail_after(2 * SUBSCRIBE_S), suppress(StreamReset):
            await behave(stream)
            assert not await stream.read()
    assert not alice.violations


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (saying(b"\x00\x00"), "within a frame"),
        (saying(b"\x00\x00\x00\x05abc"), "within a frame"),
        (saying(b"\x00\x01\x00\x00"), "announced"),
        (saying(pack(b"junk", limit=FRAME)), "cannot be read"),
        (saying(framed(Told(offers=()))), "did not begin"),
    ],
)
async def test_a_caller_that_breaks_the_protocol_is_named_and_reset(
    autojump_clock: MockClock,
    network: MemoryNetwork,
    alice: Teller,
    bob: MemoryHost,
    behave: Callable[[Stream], Awaitable[None]],
    said: str,
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        with trio.move_on_after(2 * SUBSCRIBE_S):
            with suppress(StreamReset):
                await behave(stream)
                await stream.read()
    peer, reason = await alice.until_violated()
    assert (peer, len(alice.violations)) == (BOB.peer_id, 1)
    assert said in reason


async def test_a_caller_that_leaves_before_it_asks_is_no_wrongdoer(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.close_write()
        assert await stream.read() == b""
    assert alice.violations == []


def test_a_message_about_offers_is_small_when_nothing_is_new() -> None:
    assert len(frames_of([], [])[0]) < 16
    assert msgspec.msgpack.decode(frames_of([], [])[0][4:])[0] == "told"
