"""What only the network in memory can do: cut, part, slow down, and leap in time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from meshnode.errors import Unreachable
from meshnode.net.memory import MemoryHost, MemoryNetwork, open_network
from meshnode.net.transport import Stream
from tests.kit.peers import ALICE, BOB, CAROL

ECHO = "/test/echo/1"
Trio = tuple[MemoryNetwork, MemoryHost, MemoryHost, MemoryHost]


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


@pytest.fixture
async def meeting(autojump_clock: MockClock) -> AsyncIterator[Trio]:
    """Alice and Carol connected to Bob; a byte takes 10 ms."""
    async with (
        open_network(delay_s=0.01) as network,
        network.open_host(ALICE, ["/ip4/10.0.0.1/tcp/9338"]) as alice,
        network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
        network.open_host(CAROL, []) as carol,
    ):
        bob.set_handler(ECHO, echo)
        for host in (alice, carol):
            await host.connect(bob.addresses[0])
        yield network, alice, bob, carol


async def test_time_is_what_the_delays_make_it(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, _, carol = meeting
    network.set_delay(CAROL.peer_id, BOB.peer_id, 0.25)
    assert await alice.ping(BOB.peer_id) == pytest.approx(0.02)
    assert await carol.ping(BOB.peer_id) == pytest.approx(0.5)
    link = carol.link(BOB.peer_id)
    assert link is not None
    assert link.rtt_s == pytest.approx(0.5)


async def test_a_cut_connection_is_lost_at_once_and_only_it(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, bob, carol = meeting
    async with alice.open_stream(BOB.peer_id, ECHO) as cut, carol.open_stream(BOB.peer_id, ECHO) as whole:
        network.cut(ALICE.peer_id, BOB.peer_id)
        with pytest.raises(Unreachable):
            await cut.read()
        await whole.write(b"x")
        assert await whole.read() == b"x"
    assert bob.peers == {CAROL.peer_id}
    async with alice.open_stream(BOB.peer_id, ECHO) as again:
        await again.write(b"x")
        assert await again.read() == b"x"


async def test_a_parted_link_is_silent_until_it_is_given_up(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, bob, _ = meeting
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        network.part([ALICE.peer_id], [BOB.peer_id])
        start = trio.current_time()
        await stream.write(b"into the void")
        assert alice.peers == {BOB.peer_id}
        with pytest.raises(Unreachable):
            await stream.read()
        assert trio.current_time() - start == pytest.approx(13)
    assert await bob.wait_change(frozenset([ALICE.peer_id, CAROL.peer_id])) == {CAROL.peer_id}
    with pytest.raises(Unreachable):
        await alice.connect(bob.addresses[0])
    network.heal()
    assert await alice.connect(bob.addresses[0]) == BOB.peer_id


async def test_what_heals_in_time_loses_nothing(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, _, carol = meeting
    async with alice.open_stream(BOB.peer_id, ECHO) as stream, carol.open_stream(BOB.peer_id, ECHO) as other:
        for _ in range(3):  # each silence counts by itself
            network.part([ALICE.peer_id], [BOB.peer_id, CAROL.peer_id])
            await stream.write(b"late")
            await other.write(b"in time")
            assert await other.read() == b"in time"
            await trio.sleep(12)
            network.heal()
            assert await stream.read() == b"late"


async def test_hosts_in_no_group_reach_both_sides(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, bob, carol = meeting
    network.part([ALICE.peer_id], [CAROL.peer_id])
    assert await alice.ping(BOB.peer_id) == pytest.approx(0.02)
    assert await bob.ping(CAROL.peer_id) == pytest.approx(0.02)
    with pytest.raises(Unreachable):
        await carol.connect(alice.addresses[0])


async def test_who_never_listened_cannot_be_dialled(autojump_clock: MockClock, meeting: Trio) -> None:
    network, _, bob, carol = meeting
    assert carol.addresses == ()
    network.cut(CAROL.peer_id, BOB.peer_id)
    with pytest.raises(Unreachable, match="no address"):
        async with bob.open_stream(CAROL.peer_id, ECHO):
            pass


async def test_a_stream_that_is_opened_into_silence_fails_in_time(autojump_clock: MockClock, meeting: Trio) -> None:
    network, alice, _, _ = meeting
    network.part([ALICE.peer_id], [BOB.peer_id])
    with trio.fail_after(14), pytest.raises(Unreachable):
        async with alice.open_stream(BOB.peer_id, ECHO):
            pass


def test_the_same_program_takes_the_same_virtual_time() -> None:
    async def run() -> list[float]:
        marks = []
        async with (
            open_network(delay_s=0.03) as network,
            network.open_host(ALICE, []) as alice,
            network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
        ):
            bob.set_handler(ECHO, echo)
            await alice.connect(bob.addresses[0])
            async with alice.open_stream(BOB.peer_id, ECHO) as stream:
                for size in (1, 1000, 300_000):
                    await stream.write(bytes(size))
                    left = size
                    while left:
                        left -= len(await stream.read())
                    marks.append(trio.current_time())
        return marks

    traces = [trio.run(run, clock=MockClock(autojump_threshold=0)) for _ in range(3)]
    assert traces[0] == traces[1] == traces[2]
    assert traces[0][0] == pytest.approx(0.03 * 8)
