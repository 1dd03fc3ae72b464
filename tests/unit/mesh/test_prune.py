"""Connections of no use are closed, those of some use are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import meshnode.mesh.prune as module
from meshnode.domain import PeerId
from meshnode.mesh.prune import IDLE_S, KEPT, LOOK_S, prune, superfluous
from meshnode.net.memory import MemoryHost, MemoryNetwork, open_network
from tests.kit.peers import ALICE, identity
from tests.kit.streams import ANY_PORT

PEERS = [identity(f"peer {number}") for number in range(6)]
NAMES = [peer.peer_id for peer in PEERS]


class Company:
    """Alice, connected to six peers; what they are good for can be changed."""

    def __init__(self, network: MemoryNetwork, alice: MemoryHost) -> None:
        self.network = network
        self.alice = alice
        self.offering: set[PeerId] = set()
        self.busy: set[PeerId] = set()

    @property
    def left(self) -> set[int]:
        """The numbers of those that Alice parted with."""
        return {number for number, peer in enumerate(NAMES) if peer not in self.alice.peers}


@pytest.fixture
async def company(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Company]:
    """Two of no use are kept, and three are as many as count for what they offer."""
    monkeypatch.setattr(module, "KEPT", 2)
    monkeypatch.setattr(module, "OFFERING", 3)
    async with open_network() as network, network.open_host(ALICE, ANY_PORT) as alice, AsyncExitStack() as stack:
        for peer in PEERS:
            host = await stack.enter_async_context(network.open_host(peer, ANY_PORT))
            await alice.connect(host.addresses[0])
        yield Company(network, alice)


@asynccontextmanager
async def pruning(company: Company) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prune, company.alice, company.offering.__contains__, company.busy.__contains__)
        yield
        nursery.cancel_scope.cancel()


async def test_those_of_no_use_are_left_after_a_while_but_for_a_few(
    autojump_clock: MockClock, company: Company
) -> None:
    company.busy |= {NAMES[0]}
    company.offering |= {NAMES[5]}
    async with pruning(company):
        await trio.sleep(IDLE_S - 1)
        assert company.left == set()
        await trio.sleep(LOOK_S)
        assert len(company.left) == 2
        assert company.left <= {1, 2, 3, 4}
        await trio.sleep(10 * IDLE_S)
        assert len(company.left) == 2


async def test_who_was_of_use_longest_ago_is_left_first(autojump_clock: MockClock, company: Company) -> None:
    company.busy |= set(NAMES)
    async with pruning(company):
        for peer in (NAMES[number] for number in (3, 1, 4, 0, 5, 2)):
            await trio.sleep(2 * LOOK_S)
            company.busy.discard(peer)
        await trio.sleep(IDLE_S + LOOK_S)
        assert company.left == {3, 1, 4, 0}


async def test_beyond_a_number_offering_something_is_no_use(autojump_clock: MockClock, company: Company) -> None:
    company.offering |= set(NAMES)
    async with pruning(company):
        await trio.sleep(IDLE_S + 2 * LOOK_S)
        assert len(company.left) == 1
        await trio.sleep(10 * IDLE_S)
        assert len(company.left) == 1


async def test_who_called_is_not_parted_with(autojump_clock: MockClock, company: Company) -> None:
    async with company.network.open_host(identity("caller"), ()) as caller:
        await caller.connect(company.alice.addresses[0])
        async with pruning(company):
            await trio.sleep(10 * IDLE_S)
            assert len(company.left) == 4
            assert caller.peer_id in company.alice.peers


@given(
    st.dictionaries(st.sampled_from([PeerId(str(n)) for n in range(100)]), st.floats(0, 1000)), st.floats(1000, 2000)
)
def test_never_more_are_left_than_must_be_nor_any_too_soon(used: dict[PeerId, float], now: float) -> None:
    gone = superfluous(used, now)
    assert all(now - used[peer] >= IDLE_S for peer in gone)
    stay = used.keys() - set(gone)
    assert len([peer for peer in stay if now - used[peer] >= IDLE_S]) <= KEPT
    assert not gone or len([peer for peer in stay if used[peer] < now]) >= KEPT
    assert not gone or max(used[peer] for peer in gone) <= min((used[peer] for peer in stay), default=now)
