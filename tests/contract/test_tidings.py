"""Who serves what, told between real nodes: the same on libp2p over loopback and on the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from meshnode.identity import Identity, network_tag
from meshnode.mesh.announce import LOAD_S
from meshnode.net.transport import Stream, Transport
from meshnode.wire.offer import PROTOCOL
from tests.kit.offers import NETWORK
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.streams import ANY_PORT, Opener
from tests.kit.tellers import Teller, open_teller

SOON_S = 5.0
"""A new model or peer is known to a subscriber's subscriber by then."""
DEAD_S = 15.0
"""A connected provider that died is known no more by then."""


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """Nothing here may hang."""
    with trio.fail_after(60):
        yield


class Stage:
    """Opens nodes, each in a task of its own."""

    def __init__(self, opener: Opener, nursery: trio.Nursery) -> None:
        self._opener = opener
        self._nursery = nursery
        self._leaving: dict[Teller, trio.Event] = {}

    async def open(self, who: Identity, *models: str, network: bytes = NETWORK) -> Teller:
        """A node with these models."""
        teller: Teller = await self._nursery.start(self._live, who, models, network)
        return teller

    def close(self, teller: Teller) -> None:
        """End a node: its connections are lost."""
        self._leaving.pop(teller).set()

    def close_all(self) -> None:
        """End every node."""
        for teller in list(self._leaving):
            self.close(teller)

    async def _live(
        self, who: Identity, models: tuple[str, ...], network: bytes, *, task_status: trio.TaskStatus[Teller]
    ) -> None:
        async with self._opener(who, ANY_PORT) as host, open_teller(who, host, *models, network=network) as teller:
            leaving = self._leaving[teller] = trio.Event()
            task_status.started(teller)
            await leaving.wait()


@pytest.fixture
async def stage(opener: Opener) -> AsyncIterator[Stage]:
    """No node is there yet."""
    async with trio.open_nursery() as nursery:
        stage = Stage(opener, nursery)
        yield stage
        stage.close_all()


async def connect(one: Teller, *others: Teller) -> None:
    """Connect one to others."""
    for other in others:
        await one.host.connect(other.host.addresses[0])


async def test_two_nodes_know_what_the_other_serves(stage: Stage) -> None:
    alice, bob = await stage.open(ALICE, "a:q8_0"), await stage.open(BOB, "b:q8_0", "c:q8_0")
    await connect(alice, bob)
    with trio.fail_after(SOON_S):
        await alice.until_known(BOB.peer_id, "b:q8_0", "c:q8_0")
        await bob.until_known(ALICE.peer_id, "a:q8_0")
    offer = alice.book.offer(BOB.peer_id, trio.current_time())
    assert offer is not None
    assert (offer.ledger, offer.addresses) == (BOB.ledger_public, bob.host.addresses)
    assert alice.book.source(BOB.peer_id, trio.current_time()) == BOB.peer_id
    assert alice.violations == bob.violations == []


async def test_a_new_model_and_a_new_peer_are_known_two_steps_away(stage: Stage) -> None:
    alice, bob, carol = await stage.open(ALICE), await stage.open(BOB), await stage.open(CAROL)
    await connect(bob, alice)
    await connect(carol, bob)
    await bob.until_known(CAROL.peer_id)
    carol.shelf.put("c:q8_0")
    with trio.fail_after(SOON_S):
        await alice.until_known(CAROL.peer_id, "c:q8_0")
    assert alice.book.source(CAROL.peer_id, trio.current_time()) == BOB.peer_id
    carol.shelf.put("d:q8_0")
    with trio.fail_after(SOON_S):
        await alice.until_known(CAROL.peer_id, "c:q8_0", "d:q8_0")
    await alice.host.reach(CAROL.peer_id)  # its address came with its offer
    with trio.fail_after(SOON_S):
        while alice.book.source(CAROL.peer_id, trio.current_time()) != CAROL.peer_id:
            await alice.changed.wait()


async def test_a_model_that_is_withdrawn_is_gone_everywhere(stage: Stage) -> None:
    alice, bob, carol = await stage.open(ALICE), await stage.open(BOB), await stage.open(CAROL, "c:q8_0")
    await connect(bob, alice, carol)
    await alice.until_known(CAROL.peer_id, "c:q8_0")
    carol.shelf.draining = True
    with trio.fail_after(SOON_S):
        await bob.until_known(CAROL.peer_id)
        await alice.until_unknown(CAROL.peer_id)


async def test_a_provider_that_dies_is_known_no_more_one_and_two_steps_away(stage: Stage) -> None:
    alice, bob, carol = await stage.open(ALICE), await stage.open(BOB), await stage.open(CAROL, "c:q8_0")
    await connect(bob, alice, carol)
    await alice.until_known(CAROL.peer_id, "c:q8_0")
    with trio.fail_after(DEAD_S):
        stage.close(carol)
        await bob.until_unknown(CAROL.peer_id)
        await alice.until_unknown(CAROL.peer_id)
    back = await stage.open(CAROL, "c:q8_0")
    await connect(back, bob)
    with trio.fail_after(SOON_S):
        await alice.until_known(CAROL.peer_id, "c:q8_0")


async def test_load_is_told_to_who_is_connected(stage: Stage) -> None:
    alice, bob = await stage.open(ALICE), await stage.open(BOB, "b:q8_0")
    bob.shelf.load("b:q8_0")
    await connect(alice, bob)
    await alice.until_known(BOB.peer_id, "b:q8_0")
    bob.shelf.load("b:q8_0", running=3, waiting=7)

    def queue() -> int:
        offer = alice.book.offer(BOB.peer_id, trio.current_time())
        return offer.models[0].queue if offer is not None else 0

    with trio.fail_after(LOAD_S + SOON_S):
        while queue() != 7:
            await alice.changed.wait()


async def test_nodes_of_different_networks_tell_each_other_nothing(stage: Stage) -> None:
    alice, bob = await stage.open(ALICE, "a:q8_0"), await stage.open(BOB, "b:q8_0", network=network_tag("other", None))
    await connect(alice, bob)
    with trio.fail_after(SOON_S):
        assert (await alice.until_violated())[0] == BOB.peer_id
        assert (await bob.until_violated())[0] == ALICE.peer_id
    assert alice.known == bob.known == {}


@pytest.mark.parametrize("junk", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02xx", b"\x00\x00\x00\x05abc"])
async def test_who_answers_with_junk_is_named(opener: Opener, stage: Stage, junk: bytes) -> None:
    alice = await stage.open(ALICE)

    async def answer(stream: Stream) -> None:
        await stream.read()
        await stream.write(junk)
        await stream.close_write()
        await stream.read()

    async with opener(BOB, ANY_PORT) as bob:
        bob.set_handler(PROTOCOL, answer)
        await bob.connect(alice.host.addresses[0])
        with trio.fail_after(SOON_S):
            assert (await alice.until_violated())[0] == BOB.peer_id


async def test_who_asks_with_junk_is_named(stage: Stage, bob: Transport) -> None:
    alice = await stage.open(ALICE)
    await bob.connect(alice.host.addresses[0])
    async with bob.open_stream(ALICE.peer_id, PROTOCOL) as stream:
        await stream.write(b"\x00\x00\x00\x02xx")
        with trio.fail_after(SOON_S):
            assert (await alice.until_violated())[0] == BOB.peer_id


async def test_losing_a_connection_and_getting_it_back(stage: Stage) -> None:
    alice, bob = await stage.open(ALICE), await stage.open(BOB, "b:q8_0")
    await connect(alice, bob)
    await alice.until_known(BOB.peer_id, "b:q8_0")
    await alice.host.disconnect(BOB.peer_id)
    with trio.fail_after(SOON_S):
        await alice.until_unknown(BOB.peer_id)
    await connect(alice, bob)
    with trio.fail_after(SOON_S):
        await alice.until_known(BOB.peer_id, "b:q8_0")
