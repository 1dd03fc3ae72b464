"""The board in memory; what it promises as a directory is in the contract suite."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from meshnode.net.directory import Timing
from meshnode.net.memory import open_network
from meshnode.net.memory_directory import Board
from tests.kit.directories import open_nodes, peers, published
from tests.kit.peers import ALICE, BOB


async def test_it_tells_and_asks_only_while_somebody_is_connected(autojump_clock: MockClock) -> None:
    async with open_nodes("board") as nodes:
        alice = await nodes.open("alice")
        bob = await nodes.open("bob", alice)
        await published(bob, "m")
        assert peers(await alice.directory.find("m")) == [bob.peer]
        await bob.host.close()
        assert await alice.directory.find("m") == ()


async def test_two_hundred_nodes_cost_little_and_come_out_the_same(autojump_clock: MockClock) -> None:
    async def run() -> list[str]:
        async with open_nodes("board") as nodes:
            first = await nodes.open("first")
            for number in range(200):
                await published(await nodes.open(f"member {number}", first), "m")
            return list(peers(await first.directory.find("m", enough=10_000)))

    found = await run()
    assert len(found) == 200
    assert found == await run()


async def test_records_expire_with_their_provider(autojump_clock: MockClock) -> None:
    board = Board(Timing(expire_s=100, renew_s=40))
    async with (
        open_network() as network,
        network.open_host(ALICE, ["/ip4/10.0.0.1/tcp/9338"]) as alice,
        network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
        board.open_directory(alice, "net") as asker,
    ):
        await alice.connect(bob.addresses[0])
        async with board.open_directory(bob, "net") as provider:
            await provider.provide(["m"])
            await trio.sleep(1000)
            assert peers(await asker.find("m")) == [BOB.peer_id]
        await trio.sleep(59)
        assert peers(await asker.find("m")) == [BOB.peer_id]
        await trio.sleep(101)
        assert await asker.find("m") == ()
