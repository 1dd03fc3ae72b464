"""Hearing what peers offer, on a virtual clock: from whom, for how long, and who breaks the protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import PeerId
from meshnode.errors import ProtocolViolation, StreamReset
from meshnode.identity import network_tag
from meshnode.mesh.tidings import SILENCE_S
from meshnode.net.memory import MemoryHost, MemoryNetwork
from meshnode.net.transport import Limits, Stream
from meshnode.wire.frames import pack
from meshnode.wire.offer import (
    FRAME,
    PROTOCOL,
    Offer,
    Passed,
    Told,
    Wrong,
    decode_offer,
)
from tests.kit.offer_streams import SUBSCRIBE, Voice, for_ever, framed, of, saying, then_wait
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB, CAROL, identity
from tests.kit.streams import ANY_PORT
from tests.kit.tellers import Teller, connected, full_mesh, open_teller, signed, teller

# --- hearing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (saying(b"\x00\x00\x00\x05abc"), "within a frame"),
        (saying(b"\xff\xff\xff\xff"), "announced"),
        (saying(pack(b"\x91\xa4told", limit=FRAME)), "cannot be read"),
        (saying(framed(SUBSCRIBE)), "with a subscription"),
        (then_wait(Told(offers=(of(BOB, "b"), signed(CAROL, offer(BOB, model_offer()))))), "did not sign"),
        (then_wait(Told(offers=(of(BOB, network=network_tag("other", None)),))), "another network"),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_named_and_left_alone_for_a_while(
    autojump_clock: MockClock,
    network: MemoryNetwork,
    alice: Teller,
    bob: MemoryHost,
    answer: Callable[[Stream], Awaitable[None]],
    said: str,
) -> None:
    voice = Voice(bob, answer)
    await connected(bob, alice)
    began = trio.current_time()
    peer, reason = await alice.until_violated()
    assert peer == BOB.peer_id
    assert said in reason
    assert trio.current_time() - began < SILENCE_S + 1
    await trio.sleep(59)
    assert len(voice.asked) == len(alice.violations) == 1
    await trio.sleep(2)
    assert len(voice.asked) == 2


async def test_a_peer_that_says_nothing_whole_is_asked_again_and_not_blamed(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    voice = Voice(bob, for_ever)
    await connected(bob, alice)
    await trio.sleep(SILENCE_S + 5)
    assert len(voice.asked) >= 2
    assert not alice.violations


async def test_a_peer_that_does_not_speak_it_is_asked_again_after_a_minute_and_not_blamed(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    await connected(bob, alice)
    await trio.sleep(1)
    voice = Voice(bob, then_wait(Told(offers=(of(BOB, "b"),))))
    await trio.sleep(58)
    assert voice.asked == []
    await trio.sleep(3)
    assert alice.known == {BOB.peer_id: ("b",)}
    assert alice.violations == []


@pytest.mark.parametrize("answer", [saying(b""), saying(framed(Told(offers=()))), then_wait(Wrong(reason="network"))])
async def test_a_subscription_that_ends_is_opened_again_with_growing_pauses(
    autojump_clock: MockClock,
    network: MemoryNetwork,
    alice: Teller,
    bob: MemoryHost,
    answer: Callable[[Stream], Awaitable[None]],
) -> None:
    voice = Voice(bob, answer)
    await connected(bob, alice)
    await trio.sleep(300)
    pauses = [round(later - earlier) for earlier, later in pairwise(voice.asked)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert alice.violations == []


async def test_a_defect_in_hearing_one_peer_does_not_end_what_is_heard_of_others(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = alice.book.take

    def broken(passed: Passed, *, source: PeerId, now: float, wall_ms: int) -> object:
        if source == BOB.peer_id:
            raise ZeroDivisionError
        return take(passed, source=source, now=now, wall_ms=wall_ms)

    monkeypatch.setattr(alice.book, "take", broken)
    Voice(bob, then_wait(Told(offers=(of(BOB, "b"),))))
    await connected(bob, alice)
    await trio.sleep(1)
    async with teller(network, CAROL, "c:q8_0") as carol:
        await carol.host.connect(alice.host.addresses[0])
        await alice.until_known(CAROL.peer_id, "c:q8_0")
    assert alice.violations == []


async def test_what_a_peer_relayed_goes_when_its_stream_ends_and_its_own_when_it_is_lost(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    ended = trio.Event()

    async def answer(stream: Stream) -> None:
        await stream.write(framed(Told(offers=(of(BOB, "b"), of(CAROL, "c")))))
        await ended.wait()

    voice = Voice(bob, answer)
    await connected(bob, alice)
    await alice.until_known(CAROL.peer_id, "c")
    assert alice.known == {BOB.peer_id: ("b",), CAROL.peer_id: ("c",)}
    ended.set()
    await alice.until_unknown(CAROL.peer_id)
    assert BOB.peer_id in alice.known
    assert len(voice.asked) == 1
    network.cut(ALICE.peer_id, BOB.peer_id)
    await alice.until_unknown(BOB.peer_id)


async def test_a_peer_that_was_cut_off_and_is_back_is_asked_again(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    voice = Voice(bob, then_wait(Told(offers=(of(BOB, "b"),))))
    for count in (1, 2):
        await connected(bob, alice)
        with trio.fail_after(2):
            await alice.until_known(BOB.peer_id, "b")
        assert len(voice.asked) == count
        network.cut(ALICE.peer_id, BOB.peer_id)
        await alice.until_unknown(BOB.peer_id)


async def test_an_offer_that_nobody_renews_is_over(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    async def answer(stream: Stream) -> None:
        await stream.write(framed(Told(offers=(of(BOB, "b"),))))
        while True:
            await trio.sleep(20)
            await stream.write(framed(Told(offers=())))

    Voice(bob, answer)
    await connected(bob, alice)
    await alice.until_known(BOB.peer_id, "b")
    began = trio.current_time()
    await alice.until_unknown(BOB.peer_id)
    assert 119 < trio.current_time() - began < 123


async def test_a_peer_that_talks_without_end_is_read_slowly(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    written = 0

    async def answer(stream: Stream) -> None:
        nonlocal written
        for number in range(100):
            who = identity(f"sybil {number}")
            await stream.write(framed(Told(offers=(of(who, "s"),) * 100)))
            written += 1

    Voice(bob, answer)
    await connected(bob, alice)
    await trio.sleep(60)
    told_of = len(alice.book.told_by(BOB.peer_id))
    assert 5 <= told_of <= 20
    assert written < 40


async def test_addresses_of_offers_are_learned(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller, bob: MemoryHost
) -> None:
    async with network.open_host(CAROL, ANY_PORT) as carol:
        Voice(bob, then_wait(Told(offers=(of(CAROL, "c", addresses=carol.addresses),))))
        await connected(bob, alice)
        await alice.until_known(CAROL.peer_id, "c")
        await alice.host.reach(CAROL.peer_id)
        assert CAROL.peer_id in alice.host.peers


@pytest.mark.parametrize("address", ["/ip4/10.0.0.2/tcp/9338", "/ip4/127.0.0.1/tcp/9338"])
async def test_loopback_in_offers_is_believed_of_who_came_over_loopback_alone(
    autojump_clock: MockClock, network: MemoryNetwork, address: str
) -> None:
    """A stranger's offer must not have this node dial what listens on its own machine."""
    here, there = "/ip4/127.0.0.1/tcp/22", "/ip4/10.0.0.3/tcp/9338"
    told = of(CAROL, "c", addresses=[f"{each}/p2p/{CAROL.peer_id}" for each in (here, there)])
    async with (
        network.open_host(ALICE, ()) as host,
        open_teller(ALICE, host) as alice,
        network.open_host(BOB, [address]) as bob,
    ):
        Voice(bob, then_wait(Told(offers=(told,))))
        await host.connect(bob.addresses[0])
        await alice.until_known(CAROL.peer_id, "c")
        learned = [each.dialled for each in host._learned.of(CAROL.peer_id)]
        assert learned == ([here, there] if "127.0.0.1" in address else [there])


# --- several nodes --------------------------------------------------------------------------------


async def test_peers_of_peers_stay_known_as_long_as_they_are_there(
    autojump_clock: MockClock, network: MemoryNetwork, alice: Teller
) -> None:
    async with teller(network, BOB) as bob, teller(network, CAROL, "c:q8_0") as carol:
        for node in (alice, carol):
            await node.host.connect(bob.host.addresses[0])
        await alice.until_known(CAROL.peer_id, "c:q8_0")
        carol.shelf.load("c:q8_0")
        lapses = []
        with trio.move_on_after(1800):
            while True:
                await alice.changed.wait()
                if CAROL.peer_id not in alice.known:
                    lapses.append(trio.current_time())
        assert lapses == []
        assert alice.known[CAROL.peer_id] == ("c:q8_0",)


async def test_in_a_full_mesh_nobody_tells_what_the_other_knows_better(
    autojump_clock: MockClock, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    relayed: list[PeerId] = []
    async with full_mesh(network, 6) as nodes:
        await trio.sleep(10)
        assert all(len(node.known) == 5 for node in nodes)
        for node in nodes:
            monkeypatch.setattr(node.book, "take", noting_relayed(node.book.take, relayed))
        for step in range(60):
            for number, node in enumerate(nodes):
                node.shelf.load(node.shelf.cards[0].id, running=step % 4, waiting=number)
            await trio.sleep(10)
        assert relayed == []
        assert all(len(node.known) == 5 for node in nodes)
        network.cut(nodes[0].host.peer_id, nodes[1].host.peer_id)
        nodes[1].shelf.put("new:q8_0")
        with trio.fail_after(5):
            await nodes[0].until_known(nodes[1].host.peer_id, "model-1:q8_0", "new:q8_0")
        assert set(relayed) == {nodes[0].host.peer_id, nodes[1].host.peer_id}


def noting_relayed(take: Callable[..., Offer | None], relayed: list[PeerId]) -> Callable[..., Offer | None]:
    """``OfferBook.take`` that notes whose offers came by others."""

    def noting(passed: Passed, *, source: PeerId, now: float, wall_ms: int) -> Offer | None:
        told = take(passed, source=source, now=now, wall_ms=wall_ms)
        peer = PeerId(decode_offer(passed.offer.body).peer)
        if peer != source:
            relayed.append(peer)
        return told

    return noting


async def test_leaving_ends_what_was_told(autojump_clock: MockClock, network: MemoryNetwork, bob: MemoryHost) -> None:
    async with network.open_host(ALICE, ANY_PORT) as host:
        async with open_teller(ALICE, host, "a:q8_0"):
            await bob.connect(host.addresses[0])
            subscription = bob.open_stream(ALICE.peer_id, PROTOCOL)
            stream = await subscription.__aenter__()
            await stream.write(framed(SUBSCRIBE))
            assert await stream.read()
        with pytest.raises(StreamReset):
            await stream.read()
        await subscription.__aexit__(None, None, None)
        with pytest.raises(ProtocolViolation):
            async with bob.open_stream(ALICE.peer_id, PROTOCOL):
                pass


async def test_a_silent_peer_is_known_no_more_within_fifteen_seconds(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    async with (
        network.open_host(ALICE, ANY_PORT, limits=Limits()) as host,
        open_teller(ALICE, host) as alice,
        teller(network, BOB, "b:q8_0") as bob,
    ):
        await bob.host.connect(host.addresses[0])
        await alice.until_known(BOB.peer_id, "b:q8_0")
        network.part([ALICE.peer_id], [BOB.peer_id])
        with trio.fail_after(15):
            await alice.until_unknown(BOB.peer_id)
        await trio.sleep(1)
