"""What every directory must do: on a board in memory, and Kademlia on hosts in memory and on libp2p over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from meshnode.net.directory import CATALOGUE, ROOM, Timing
from meshnode.net.transport import parse_dial
from tests.kit.directories import KINDS, Nodes, open_nodes, peers, published, until

PATIENT = Timing(retry_s=0.1, ask_s=10, find_s=30)
BRIEF = Timing(expire_s=1.0, renew_s=0.25, retry_s=0.1, keys=1000)


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """Nothing here may hang."""
    with trio.fail_after(60):
        yield


@pytest.fixture(params=KINDS)
def kind(request: Any) -> str:
    """Which kind of nodes there are."""
    return str(request.param)


@pytest.fixture
async def nodes(kind: str) -> AsyncIterator[Nodes]:
    """Opens nodes."""
    async with open_nodes(kind, PATIENT) as opened:
        yield opened


async def test_what_one_of_eight_provides_another_finds(nodes: Nodes) -> None:
    members = [await nodes.open("first")]
    for number in range(6):
        members.append(await nodes.open(f"member {number}", members[0]))
    provider = members[3]
    await published(provider, "qwen3-8b")
    newcomer = await nodes.open("newcomer", members[5])
    for node in (newcomer, members[0], members[6]):
        (hint,) = await node.directory.find("qwen3-8b")
        assert hint.peer == provider.peer
        assert hint.addresses == provider.host.addresses
        assert {parse_dial(address)[1] for address in hint.addresses} == {hint.peer}
        assert await node.directory.find("another") == ()


async def test_several_providers_are_found_once_each_and_never_ourselves(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    bob, carol = await nodes.open("bob", alice), await nodes.open("carol", alice)
    for node in (alice, bob, carol):
        await published(node, CATALOGUE)
    assert peers(await carol.directory.find(CATALOGUE)) == sorted([alice.peer, bob.peer])
    without = await carol.directory.find(CATALOGUE, besides=[bob.peer])
    assert peers(without) == [alice.peer]


async def test_three_names_are_published_and_names_have_no_case(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    bob = await nodes.open("bob", alice)
    await published(bob, "Qwen3-8B", "smollm2:q4_k_m", CATALOGUE)
    for name in ("qwen3-8b", "SMOLLM2:Q4_K_M", "Catalogue"):
        assert peers(await alice.directory.find(name)) == [bob.peer]


async def test_names_of_another_network_are_other_names(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    bob = await nodes.open("bob", alice, network="elsewhere")
    await published(bob, "m")
    assert await alice.directory.find("m") == ()


async def test_nobody_is_there(nodes: Nodes) -> None:
    alone = await nodes.open("alice")
    await alone.directory.provide(["m"])
    assert await alone.directory.find("m") == ()
    assert alone.directory.published == frozenset()


async def test_what_could_not_be_published_is_when_somebody_comes(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    await alice.directory.provide(["m"])
    assert await alice.directory.find("m") == ()
    bob = await nodes.open("bob", alice)
    await until(lambda: alice.directory.published == {"m"})
    assert peers(await bob.directory.find("m")) == [alice.peer]


async def test_providing_anew_replaces(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    bob = await nodes.open("bob", alice)
    await published(bob, "old", "kept")
    await bob.directory.provide(["kept", "new"])
    assert "old" not in bob.directory.published
    assert "kept" in bob.directory.published
    await until(lambda: bob.directory.published == {"kept", "new"})
    assert peers(await alice.directory.find("new")) == [bob.peer]
    await bob.directory.provide([])
    assert bob.directory.published == frozenset()


async def test_a_record_lives_while_it_is_renewed_and_no_longer(kind: str) -> None:
    async with open_nodes(kind, BRIEF) as nodes:
        alice = await nodes.open("alice")
        bob = await nodes.open("bob", alice)
        carol = await nodes.open("carol", alice, bob)
        await published(bob, "m")
        end = trio.current_time() + 2 * BRIEF.expire_s
        while trio.current_time() < end:
            assert peers(await carol.directory.find("m")) == [bob.peer]
            assert bob.directory.published == {"m"}
        await bob.leave()
        left = trio.current_time()
        while await carol.directory.find("m"):
            assert trio.current_time() < left + 2 * BRIEF.expire_s


async def test_a_provider_that_is_gone_makes_nothing_hang(kind: str) -> None:
    async with open_nodes(kind) as nodes:
        alice = await nodes.open("alice")
        bob = await nodes.open("bob", alice)
        carol = await nodes.open("carol", bob)
        await published(bob, "m")
        await bob.host.close()
        with trio.fail_after(12):
            await carol.directory.find("m")
            await carol.directory.find("another")


async def test_leaving_leaves_no_task(nodes: Nodes) -> None:
    alice = await nodes.open("alice")
    await trio.testing.wait_all_tasks_blocked(0.05)
    before = trio.lowlevel.current_statistics().tasks_living
    bob = await nodes.open("bob")
    await alice.host.connect(bob.host.addresses[0])  # libp2p keeps a task for each inbound connection
    await published(bob, "m")
    await alice.directory.find("m")
    await bob.leave()
    await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


@pytest.mark.parametrize("kind", ["board", pytest.param("memory", marks=pytest.mark.slow)], indirect=True)
async def test_thirty_providers_of_one_name_are_all_found(kind: str) -> None:
    """One key has room for 20: the others stand in the shards above. (With libp2p see the tests of kademlia.)"""
    async with open_nodes(kind, PATIENT) as nodes:
        members = [await nodes.open("first")]
        for number in range(30):
            members.append(await nodes.open(f"member {number}", members[0]))
            await published(members[-1], "m")
        found = peers(await members[0].directory.find("m", enough=1000))
        assert found == sorted(node.peer for node in members[1:])
        assert len(await members[0].directory.find("m")) >= ROOM
