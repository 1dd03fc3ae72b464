"""A named peer is reached, and reached again after it was lost."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import ConfigError
from meshnode.net.join import LONGEST_PAUSE_S, keep_connected
from meshnode.net.memory import open_network
from tests.kit.peers import ALICE, BOB

ADDRESS = f"/ip4/10.0.0.2/tcp/9338/p2p/{BOB.peer_id}"


def always() -> float:
    return 1.0


async def test_a_peer_that_comes_goes_and_comes_again_is_connected_each_time(autojump_clock: MockClock) -> None:
    async with open_network() as network, network.open_host(ALICE, []) as alice, trio.open_nursery() as nursery:
        nursery.start_soon(keep_connected, alice, [ADDRESS], always)
        await trio.sleep(10)  # virtual: nobody is there yet
        for _ in range(2):
            async with network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]):
                with trio.fail_after(2 * LONGEST_PAUSE_S):
                    while alice.peers != {BOB.peer_id}:
                        await alice.wait_change(alice.peers)
            assert BOB.peer_id not in alice.peers
        nursery.cancel_scope.cancel()


async def test_a_connection_that_was_cut_is_made_again(autojump_clock: MockClock) -> None:
    async with (
        open_network() as network,
        network.open_host(ALICE, []) as alice,
        network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(keep_connected, alice, [ADDRESS], always)
        assert await bob.wait_change(frozenset()) == {ALICE.peer_id}
        network.cut(ALICE.peer_id, BOB.peer_id)
        assert alice.peers == frozenset()
        with trio.fail_after(5):
            assert await alice.wait_change(frozenset()) == {BOB.peer_id}
        nursery.cancel_scope.cancel()


async def test_what_is_no_address_of_a_peer_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with open_network() as network, network.open_host(ALICE, []) as alice:
        with pytest.raises(ConfigError):
            await keep_connected(alice, ["/ip4/10.0.0.2/tcp/9338"], always)
