"""What every road to peers must do: the same tests on libp2p over loopback and on the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from meshnode.domain import PeerId
from meshnode.errors import ConfigError, PortInUse, StreamReset, Unreachable
from meshnode.net.transport import Limits, Transport
from tests.kit.libp2p_traps import free_port
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.streams import ANY_PORT, ECHO, MIB, Opener, Witness, echo


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """Nothing here may hang."""
    with trio.fail_after(60):
        yield


# --- meeting ------------------------------------------------------------------------------------


async def test_both_know_who_they_are_connected_to(alice: Transport, bob: Transport) -> None:
    assert bob.addresses[0].endswith(f"/p2p/{BOB.peer_id}")
    assert await alice.connect(bob.addresses[0]) == BOB.peer_id
    seen = await bob.wait_change(frozenset())
    assert seen == {ALICE.peer_id} == bob.peers
    assert alice.peers == {BOB.peer_id}
    there, back = alice.link(BOB.peer_id), bob.link(ALICE.peer_id)
    assert there is not None
    assert back is not None
    assert (there.peer, there.outbound, back.outbound) == (BOB.peer_id, True, False)
    assert bob.addresses[0].startswith(there.address + "/p2p/")
    assert alice.link(CAROL.peer_id) is None


async def test_connecting_twice_makes_one_connection(alice: Transport, bob: Transport) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(alice.connect, bob.addresses[0])
    assert alice.peers == {BOB.peer_id}


async def test_a_ping_takes_some_time(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    assert 0 <= await alice.ping(BOB.peer_id) < 5


async def test_another_peer_than_the_expected_one_is_refused(alice: Transport, bob: Transport) -> None:
    address = bob.addresses[0].replace(str(BOB.peer_id), str(CAROL.peer_id))
    with pytest.raises(Unreachable, match="somebody else answers"):
        await alice.connect(address)
    assert not alice.peers


async def test_a_closed_port_is_unreachable_at_once_and_again(opener: Opener, alice: Transport) -> None:
    async with opener(BOB, ANY_PORT) as bob:
        address = bob.addresses[0]
    for _ in range(2):
        with trio.fail_after(3), pytest.raises(Unreachable, match="refused"):
            await alice.connect(address)
    port = address.split("/")[4]
    async with opener(BOB, [f"/ip4/127.0.0.1/tcp/{port}"]):  # a failed dial does not keep us from the next one
        await alice.connect(address)


async def test_nobody_dials_himself_or_the_unknown(alice: Transport) -> None:
    with pytest.raises(Unreachable, match="this node itself"):
        await alice.connect(alice.addresses[0])
    with pytest.raises(Unreachable, match="no address"):
        async with alice.open_stream(CAROL.peer_id, ECHO):
            pass
    with pytest.raises(ConfigError, match="must end in /p2p/"):
        await alice.connect("/ip4/127.0.0.1/tcp/9338")


async def test_a_taken_port_is_refused(opener: Opener, bob: Transport) -> None:
    port = bob.addresses[0].split("/")[4]
    with pytest.raises(PortInUse, match=port):
        async with opener(CAROL, [f"/ip4/127.0.0.1/tcp/{port}"]):
            pass


async def test_private_networks_keep_others_out(opener: Opener, alice: Transport) -> None:
    limits = Limits(dial_timeout_s=0.5)
    async with (
        opener(BOB, ANY_PORT, psk=b"1" * 32, limits=limits) as inside,
        opener(CAROL, ANY_PORT, psk=b"2" * 32, limits=limits) as elsewhere,
    ):
        for stranger, host in ((elsewhere, inside), (inside, elsewhere), (inside, alice)):
            with pytest.raises(Unreachable):
                await stranger.connect(host.addresses[0])
        assert not inside.peers | elsewhere.peers | alice.peers


async def test_members_of_a_private_network_talk(opener: Opener) -> None:
    async with opener(BOB, ANY_PORT, psk=b"1" * 32) as bob, opener(CAROL, ANY_PORT, psk=b"1" * 32) as carol:
        bob.set_handler(ECHO, echo)
        await carol.connect(bob.addresses[0])
        async with carol.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"among us")
            assert await stream.read() == b"among us"


async def test_a_key_of_the_wrong_length_is_refused(opener: Opener) -> None:
    with pytest.raises(ConfigError, match="31 bytes"):
        async with opener(BOB, ANY_PORT, psk=b"1" * 31):
            pass


# --- hearsay ------------------------------------------------------------------------------------


async def test_a_peer_is_reached_where_it_was_said_to_be(alice: Transport, bob: Transport) -> None:
    with pytest.raises(Unreachable, match="no address"):
        await alice.reach(BOB.peer_id)
    elsewhere = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{BOB.peer_id}"
    alice.learn(BOB.peer_id, ["nonsense", f"/ip4/0.0.0.0/tcp/1/p2p/{BOB.peer_id}", alice.addresses[0]])
    with pytest.raises(Unreachable, match="no address"):
        await alice.reach(BOB.peer_id)
    alice.learn(BOB.peer_id, [elsewhere, bob.addresses[0]])
    for _ in range(2):
        await alice.reach(BOB.peer_id)
        assert alice.peers == {BOB.peer_id}
    assert not any(elsewhere.startswith(address) for address in alice.known(BOB.peer_id)), "hearsay is no knowledge"


async def test_a_stream_is_opened_where_its_peer_was_said_to_be(alice: Transport, bob: Transport) -> None:
    alice.learn(BOB.peer_id, bob.addresses)
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await stream.write(b"hello")
        assert await stream.read() == b"hello"


async def test_false_hearsay_hides_no_peer_that_was_met(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    await alice.disconnect(BOB.peer_id)
    alice.learn(BOB.peer_id, [f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{BOB.peer_id}" for _ in range(8)])
    with trio.fail_after(10):
        await alice.reach(BOB.peer_id)


# --- who is let in ------------------------------------------------------------------------------


class Door:
    """Lets in and bans by hand, and notes who came."""

    def __init__(self, *, open: bool = True) -> None:  # noqa: A002
        self.open = open
        self.banned: set[PeerId] = set()
        self.came: list[str] = []

    def __call__(self, host: str) -> bool:
        self.came.append(host)
        return self.open

    def blocked(self, peer: PeerId) -> bool:
        return peer in self.banned


def opened(opener: Opener, door: Door) -> AbstractAsyncContextManager[Transport]:
    """Carol behind her door."""
    return opener(CAROL, ANY_PORT, admits=door, blocked=door.blocked)


async def test_who_is_not_admitted_gets_nowhere(opener: Opener, alice: Transport) -> None:
    door, witness = Door(open=False), Witness()
    async with opened(opener, door) as carol:
        carol.set_handler(ECHO, witness)
        alice.learn(CAROL.peer_id, carol.addresses)
        with capture_logs() as logs:
            for _ in range(3):
                with trio.fail_after(5), pytest.raises(Unreachable):
                    await alice.connect(carol.addresses[0])
                with trio.fail_after(5), pytest.raises(Unreachable):
                    async with alice.open_stream(CAROL.peer_id, ECHO):
                        pass
                assert not carol.peers | alice.peers
        assert door.came == ["127.0.0.1"] * 6
        assert [entry["event"] for entry in logs].count("inbound_refused") == 1
        assert not witness.began.is_set()
        door.open = True
        async with alice.open_stream(CAROL.peer_id, ECHO):
            await witness.began.wait()


async def test_a_closed_door_keeps_nobody_from_going_out(opener: Opener, bob: Transport) -> None:
    door = Door(open=False)
    async with opened(opener, door) as carol:
        await carol.connect(bob.addresses[0])
        async with carol.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"out")
            assert await stream.read() == b"out"
    assert door.came == []


async def test_through_a_closed_door_only_whom_the_owner_names_is_dialled(opener: Opener, bob: Transport) -> None:
    door = Door(open=False)
    async with opened(opener, door) as carol:
        carol.learn(BOB.peer_id, bob.addresses)
        with pytest.raises(Unreachable, match="no address"):
            await carol.reach(BOB.peer_id)
        with pytest.raises(Unreachable, match="no address"):
            async with carol.open_stream(BOB.peer_id, ECHO):
                pass
        assert door.came == ["127.0.0.1"] * 2
        await carol.connect(bob.addresses[0])
        await carol.disconnect(BOB.peer_id)
        with pytest.raises(Unreachable, match="no address"):
            await carol.reach(BOB.peer_id)
        door.open = True
        await carol.reach(BOB.peer_id)
        assert carol.peers == {BOB.peer_id}


async def test_who_is_blocked_gets_nowhere_either(opener: Opener, alice: Transport) -> None:
    door, witness = Door(), Witness()
    async with opened(opener, door) as carol:
        carol.set_handler(ECHO, witness)
        door.banned.add(ALICE.peer_id)
        with trio.fail_after(5), pytest.raises(Unreachable):
            await alice.connect(carol.addresses[0])
        with pytest.raises(Unreachable, match="blocked"):
            await carol.connect(alice.addresses[0])
        assert not carol.peers | alice.peers
        assert not witness.began.is_set()
        door.banned.clear()
        await carol.connect(alice.addresses[0])


async def test_who_is_blocked_while_connected_opens_no_more_streams(opener: Opener, alice: Transport) -> None:
    door, witness = Door(), Witness()
    async with opened(opener, door) as carol:
        carol.set_handler(ECHO, witness)
        await alice.connect(carol.addresses[0])
        door.banned.add(ALICE.peer_id)
        with pytest.raises(Unreachable, match="blocked"):
            async with carol.open_stream(ALICE.peer_id, ECHO):
                pass
        with trio.fail_after(5), pytest.raises((Unreachable, StreamReset)):
            async with alice.open_stream(CAROL.peer_id, ECHO):
                pass
        with trio.fail_after(5):
            await carol.wait_change(frozenset([ALICE.peer_id]))
        assert not carol.peers
        assert not witness.began.is_set()


# --- losing each other --------------------------------------------------------------------------


async def test_a_host_that_closes_is_lost_to_its_peers(opener: Opener, alice: Transport) -> None:
    async with opener(BOB, ANY_PORT) as bob:
        bob.set_handler(ECHO, echo)
        address = bob.addresses[0]
        await alice.connect(address)
        stream_context = alice.open_stream(BOB.peer_id, ECHO)
        stream = await stream_context.__aenter__()
        await stream.write(b"x")
        assert await stream.read() == b"x"
        with trio.fail_after(3):
            await bob.close()
    with pytest.raises(Unreachable):
        await stream.read()
    with pytest.raises(Unreachable):
        await stream.write(b"x" * MIB)
    await stream_context.__aexit__(None, None, None)
    assert await alice.wait_change(frozenset([BOB.peer_id])) == frozenset()
    with pytest.raises(Unreachable):
        await alice.connect(address)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not condition():  # noqa: ASYNC110  # on purpose
        await trio.sleep(0.01)


async def test_closing_leaves_no_task_and_takes_no_time(opener: Opener, alice: Transport) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with opener(BOB, ANY_PORT) as bob, opener(CAROL, ANY_PORT) as carol:
        bob.set_handler(ECHO, echo)
        for host in (alice, carol):
            await host.connect(bob.addresses[0])
        async with carol.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"in the middle of it")
            with trio.fail_after(2):
                await bob.close()
    await alice.wait_change(frozenset([BOB.peer_id]))
    with trio.fail_after(5):
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


async def test_disconnecting_ends_the_streams_on_both_sides(alice: Transport, bob: Transport) -> None:
    bob.set_handler(ECHO, witness := Witness())
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await witness.began.wait()
        await alice.disconnect(BOB.peer_id)
        with pytest.raises(Unreachable):
            await stream.read()
    await witness.over.wait()
    assert witness.end == "Unreachable"
    assert await bob.wait_change(frozenset([ALICE.peer_id])) == frozenset()


async def test_a_stream_reconnects_at_an_address_that_worked(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    await alice.disconnect(BOB.peer_id)
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await stream.write(b"again")
        assert await stream.read() == b"again"


async def test_waiting_for_a_change_sees_peers_come_and_go(alice: Transport, bob: Transport) -> None:
    seen: list[frozenset[PeerId]] = []
    came = trio.Event()

    async def watch() -> None:
        seen.append(await bob.wait_change(frozenset()))
        came.set()
        seen.append(await bob.wait_change(seen[0]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await alice.connect(bob.addresses[0])
        await came.wait()
        await alice.disconnect(BOB.peer_id)
    assert seen == [{ALICE.peer_id}, frozenset()]
