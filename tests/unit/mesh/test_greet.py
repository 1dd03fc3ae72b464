"""Introductions: both ends honest, and every way in which one of them is not. Alice calls, bob answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from meshnode.causes import leaves
from meshnode.errors import PeerError
from meshnode.identity import Identity
from meshnode.mesh.greet import PATIENCE_S, Greeted, greet, short
from meshnode.mesh.talk import Talk
from meshnode.net.memory import open_network
from meshnode.net.transport import Stream, Transport
from meshnode.wire import messages as m
from meshnode.wire.receipt import SignedReceipt
from meshnode.wire.session import Role, Session
from tests.kit.mesh import make_self
from tests.kit.offers import NETWORK
from tests.kit.peers import ALICE, BOB
from tests.kit.puppet import Puppet, calling
from tests.kit.streams import ANY_PORT

RECEIPT = SignedReceipt(b"body", bytes(64))


async def nothing(_key: bytes) -> Sequence[SignedReceipt]:
    """No receipts."""
    return ()


async def one(_key: bytes) -> Sequence[SignedReceipt]:
    """One receipt, which nobody looks into here."""
    return (RECEIPT,)


@asynccontextmanager
async def talking(stream: Stream, role: Role) -> AsyncIterator[Talk]:
    """A talk whose writing task runs."""
    talk = Talk(stream, role, Session(role))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk.write)
        yield talk
        nursery.cancel_scope.cancel()


class Doorstep:
    """Bob's end: what came of the introduction."""

    def __init__(self, transport: Transport, identity: Identity = BOB) -> None:
        self.told: Greeted | str = ""
        self.over = trio.Event()
        self._identity = identity
        transport.set_handler(m.PROTOCOL, self._handle)

    async def _handle(self, stream: Stream) -> None:
        try:
            async with talking(stream, Role.PROVIDER) as talk:
                self.told = await greet(talk, make_self(self._identity, 7), one)
                await talk.flush()
        except* PeerError as group:
            [error] = leaves(group)
            assert isinstance(error, PeerError)
            self.told = f"{error.code}: {error.message}"
        self.over.set()


@pytest.fixture
async def ends(autojump_clock: MockClock) -> AsyncIterator[tuple[Transport, Doorstep]]:
    """Alice's transport, and bob's doorstep."""
    async with (
        open_network() as network,
        network.open_host(ALICE, ANY_PORT) as alice,
        network.open_host(BOB, ANY_PORT) as bob,
    ):
        await alice.connect(bob.addresses[0])
        yield alice, Doorstep(bob)


async def test_two_honest_ends_know_each_other_then(
    autojump_clock: MockClock, ends: tuple[Transport, Doorstep]
) -> None:
    alice, bob = ends
    async with alice.open_stream(BOB.peer_id, m.PROTOCOL) as stream, talking(stream, Role.CALLER) as talk:
        greeted = await greet(talk, make_self(ALICE), nothing)
        await bob.over.wait()
    assert greeted == Greeted(BOB.ledger_public, (RECEIPT,), 7)
    assert bob.told == Greeted(ALICE.ledger_public, (), 256)


Step = Callable[[Puppet], Awaitable[object]]


async def _said(puppet: Puppet, *messages: m.Message) -> None:
    await puppet.say(*messages)


def hello(**changes: object) -> Step:
    """A hello with something wrong in it."""
    fields: dict[str, object] = {
        "version": 1, "network": NETWORK, "ledger": ALICE.ledger_public, "nonce": b"n" * 16,
    }  # fmt: skip
    return lambda puppet: _said(puppet, m.Hello(**(fields | changes)))  # type: ignore[arg-type]


async def wrong_proof(puppet: Puppet) -> None:
    """A proof made for another stream."""
    await puppet.say(m.Hello(1, NETWORK, ALICE.ledger_public, b"n" * 16))
    await puppet.hear()
    await puppet.say(m.Proof(ALICE.sign_for_ledger(b"something else")))


async def silent(_puppet: Puppet) -> None:
    """Nothing at all."""


BAD: list[tuple[str, Step, str]] = [
    ("another network", hello(network=b"elsewher"), "is of another network"),
    ("version 0", hello(version=0), "speaks version 0"),
    ("our own ledger key", hello(ledger=BOB.ledger_public), "cannot be its own"),
    ("a key of small order", hello(ledger=bytes([1]) + bytes(31)), "cannot be its own"),
    ("a farewell", lambda puppet: _said(puppet, m.Bye("tired")), "said good-bye: tired"),
    ("an ask first", lambda puppet: _said(puppet, m.Ask(1, b"", bytes(64), 1)), "out of order"),
    ("a proof of nothing", wrong_proof, "did not prove its ledger key"),
    ("silence", silent, f"within {PATIENCE_S:g} s"),
]


@pytest.mark.parametrize(("step", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_who_does_not_introduce_himself_properly_is_not_known(
    autojump_clock: MockClock, ends: tuple[Transport, Doorstep], step: Step, reason: str
) -> None:
    alice, bob = ends
    async with calling(ALICE, alice, BOB.peer_id) as puppet:
        await step(puppet)
        await bob.over.wait()
    assert isinstance(bob.told, str)
    assert reason in bob.told
    blamed = bob.told.startswith("protocol_violation")
    assert blamed is not ("good-bye" in reason or "within" in reason)  # who leaves or is slow is no liar


async def test_a_later_version_is_welcome(autojump_clock: MockClock, ends: tuple[Transport, Doorstep]) -> None:
    alice, bob = ends
    async with calling(ALICE, alice, BOB.peer_id) as puppet:
        await hello(version=2)(puppet)
        theirs = await puppet.hear()
        assert isinstance(theirs, m.Hello)
        bond = m.bond(
            caller=ALICE.peer_id,
            provider=BOB.peer_id,
            caller_nonce=b"n" * 16,
            provider_nonce=theirs.nonce,
            ledger=ALICE.ledger_public,
        )
        await puppet.say(m.Proof(ALICE.sign_for_ledger(bond)))
        await bob.over.wait()
    assert isinstance(bob.told, Greeted)


def test_a_peer_id_is_shortened_so_that_it_can_be_told_from_others() -> None:
    assert short(ALICE.peer_id) == f"12D3…{ALICE.peer_id[-6:]}"
