"""Every guard at work, and stock libp2p without it: when that does well too, the guard can go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from libp2p.network import swarm
from libp2p.stream_muxer.exceptions import MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux

from meshnode.errors import Overloaded, PortInUse, StreamReset, Unreachable
from meshnode.net import guards
from meshnode.net.host import Host, open_host
from meshnode.net.transport import Limits, Stream
from tests.kit.libp2p_stock import HOSTS
from tests.kit.libp2p_traps import SYN_1, TRAPS, Wire, alone, escaped, frame, free_port
from tests.kit.peers import ALICE, BOB, CAROL, identity

ANY_PORT = ("/ip4/127.0.0.1/tcp/0",)
ECHO = "/test/echo/1"
DAVE = identity("dave")
ROOMY = Limits(inbound_streams=400, outbound_streams=400, open_timeout_s=1)


@pytest.fixture(autouse=True)
def installed() -> None:
    """The guards are in place; they stay."""
    guards.install()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Host, Host]]:
    """Alice connected to Bob, who echoes; roomy enough to come near libp2p's own limits."""
    async with (
        open_host(ALICE, ANY_PORT, limits=ROOMY) as alice,
        open_host(BOB, ANY_PORT, limits=ROOMY) as bob,
    ):
        bob.set_handler(ECHO, echo)
        await alice.connect(bob.addresses[0])
        yield alice, bob


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def works(host: Host) -> bool:
    """Whether Bob still answers ``host``."""
    with trio.fail_after(10):
        async with host.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"still here")
            return await stream.read() == b"still here"


async def test_guard_01_a_failing_handler_does_not_end_the_process(pair: tuple[Host, Host]) -> None:
    """Stock: the exception goes through every nursery up to ``trio.run``."""
    alice, bob = pair

    async def fail(stream: Stream) -> None:
        raise ZeroDivisionError

    bob.set_handler("/test/fail/1", fail)
    async with alice.open_stream(BOB.peer_id, "/test/fail/1") as stream:
        with pytest.raises(StreamReset):
            await stream.read()
    assert await works(alice)


def test_guard_02_a_cancelled_write_leaves_no_half_frame() -> None:
    """Stock: the rest of the frame never follows, and the peer takes the next frame for it."""
    assert escaped(TRAPS["02"])


async def test_guard_02_a_peer_that_does_not_drain_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    """Stock: the writer waits for as long as the peer likes."""
    with trio.fail_after(100):
        async with alone() as (connection, wire, bare):
            await bare.write(SYN_1)
            stream = await connection.accept_stream()
            wire.gate = trio.Event()
            with pytest.raises(MuxedStreamReset):
                await stream.write(b"stuck")
            assert connection.is_closed


def test_guard_03_a_reset_is_no_end() -> None:
    """Stock: a reader that waits gets a clean end."""
    assert escaped(TRAPS["03"])


def test_guard_03_a_lost_connection_is_no_end() -> None:
    """Stock: likewise."""
    assert escaped(TRAPS["03b"])


def test_guard_04_a_writer_waits_for_its_reader() -> None:
    """Stock: raises after five seconds, though the reader only pauses."""
    assert escaped(TRAPS["04"])


def test_guard_05_a_peer_cannot_fill_our_memory() -> None:
    """Stock: warns in the log, and takes everything (300 MB were seen)."""
    assert escaped(TRAPS["05"])


async def test_guard_06_the_257th_stream_is_not_waited_for_for_ever(pair: tuple[Host, Host]) -> None:
    """Stock: ``new_stream`` waits for one of 256 to end. Here a deadline ends it, and by default 128 are the limit."""
    alice, _ = pair
    assert Limits().outbound_streams <= 128
    async with AsyncExitStack() as stack:
        for _ in range(250):
            await stack.enter_async_context(alice.open_stream(BOB.peer_id, ECHO))
        with trio.fail_after(30), pytest.raises(Unreachable, match="too long"):
            await open_many(stack, alice)
    assert await works(alice)


async def open_many(stack: AsyncExitStack, host: Host) -> None:
    """Seven streams, which with 250 others are one too many."""
    for _ in range(7):
        await stack.enter_async_context(host.open_stream(BOB.peer_id, ECHO))


async def test_guard_07_a_cancelled_task_resets_its_stream(pair: tuple[Host, Host]) -> None:
    """Stock: leaves the stream open, or, as a context manager, ends it as if all had been said. So it has no twin."""
    alice, bob = pair
    ended = trio.Event()

    async def notice(stream: Stream) -> None:
        with pytest.raises(StreamReset):
            await stream.read()
        ended.set()

    bob.set_handler("/test/notice/1", notice)
    with trio.move_on_after(0.2):
        async with alice.open_stream(BOB.peer_id, "/test/notice/1") as stream:
            await stream.read()
    with trio.fail_after(10):
        await ended.wait()


async def test_guard_08_a_dial_does_not_sleep() -> None:
    """Stock: even a dial that has succeeded sleeps out the head start of 250 ms."""
    assert swarm._HAPPY_EYEBALLS_DELAY == 0
    times = []
    for _ in range(5):
        async with open_host(ALICE, ANY_PORT) as alice, open_host(BOB, ANY_PORT) as bob:
            start = time.perf_counter()
            await alice.connect(bob.addresses[0])
            times.append(time.perf_counter() - start)
    assert min(times) < 0.2


def test_guard_09_a_silent_peer_is_noticed() -> None:
    """Stock: a stopped process stays connected; pings go out every 30 s and their absence is ignored."""
    assert escaped(TRAPS["09"])


async def test_guard_10_the_port_is_closed_afterwards() -> None:
    """Stock: 19 tasks are left over, and the port goes on accepting."""
    port = free_port()
    async with open_host(ALICE, [f"/ip4/127.0.0.1/tcp/{port}"]), await trio.open_tcp_stream("127.0.0.1", port):
        pass
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_guard_11_a_failed_dial_can_be_tried_again() -> None:
    """Stock: the peer is refused for 60 s without a try."""
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}"
    async with open_host(ALICE, ()) as alice:
        with pytest.raises(Unreachable, match="refused"):
            await alice.connect(f"{address}/p2p/{BOB.peer_id}")
        async with open_host(BOB, [address]):
            await alice.connect(f"{address}/p2p/{BOB.peer_id}")


async def test_guard_12_nobody_is_dialled_unasked() -> None:
    """Stock: with all its watermarks at zero the auto-connector still dials whoever the peer store knows."""
    async with open_host(ALICE, ANY_PORT) as alice, open_host(BOB, ANY_PORT) as bob:
        await alice.connect(bob.addresses[0])
        await alice.disconnect(BOB.peer_id)
        await alice._network.auto_connector.maybe_connect()
        assert not alice.peers


def test_guard_13_a_cancelled_read_loses_no_bytes() -> None:
    """Stock: they are taken from the buffer, and lost while the peer is told of the room."""
    assert escaped(TRAPS["13"])


def test_guard_14_reading_does_not_wait_for_writing() -> None:
    """Stock: the task that reads also answers pings, and waits behind a blocked write to do so."""
    assert escaped(TRAPS["14"])


async def test_guard_14_a_flood_of_pings_that_nobody_reads_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The price of not waiting is a queue; it has an end."""
    ping = frame(yamux.TYPE_PING, yamux.FLAG_SYN, 0, 7)
    async with alone() as (connection, wire, bare), trio.open_nursery() as nursery:
        await bare.write(SYN_1)
        stream = await connection.accept_stream()
        await trio.testing.wait_all_tasks_blocked()
        wire.gate = trio.Event()
        nursery.start_soon(ends_in_a_reset, stream)
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await write_for_ever(bare, ping * 100)
        wire.gate.set()
        with trio.fail_after(10):
            await connection.event_closed.wait()


async def write_for_ever(wire: Wire, data: bytes) -> None:
    while True:
        await wire.write(data)


async def ends_in_a_reset(stream: guards.GuardedStream) -> None:
    with pytest.raises(MuxedStreamReset):
        await stream.write(b"x" * 1_000_000)


def test_guard_15_a_message_may_come_in_many_pieces() -> None:
    """Stock: gives up after 100 reads, which 64 KiB in small packets take."""
    assert escaped(TRAPS["15"])


def test_guard_16_a_reset_here_wakes_the_reader_here() -> None:
    """Stock: the reader sleeps for ever."""
    assert escaped(TRAPS["16"])


def test_guard_17_what_was_dropped_unread_is_no_end() -> None:
    """Stock: a minute after both ends closed, unread bytes are dropped, and the reader gets a clean end."""
    assert escaped(TRAPS["17"])


def test_guard_18_ipv6_peers_have_an_address() -> None:
    """Stock: expects pairs, and an IPv6 socket's name has four parts."""
    assert escaped(TRAPS["18"])


async def test_guard_19_a_port_belongs_to_one_program() -> None:
    """Stock: SO_REUSEPORT lets a second node listen too, and the kernel deals callers out between them."""
    port = free_port()
    async with open_host(ALICE, [f"/ip4/127.0.0.1/tcp/{port}"]):
        with pytest.raises(PortInUse, match=str(port)):
            async with open_host(BOB, [f"/ip4/127.0.0.1/tcp/{port}"]):
                pass


async def test_guard_20_who_has_left_takes_no_place() -> None:
    """Stock: after as many connections as there are places, however long gone, all others are turned away."""
    async with open_host(BOB, ANY_PORT, limits=Limits(connections=3)) as bob:
        bob.set_handler(ECHO, echo)
        alone = trio.lowlevel.current_statistics().tasks_living
        for _ in range(6):
            async with open_host(ALICE, ()) as alice:
                await alice.connect(bob.addresses[0])
                assert await works(alice)
            with trio.fail_after(10):
                await bob.wait_change(frozenset([ALICE.peer_id]))
        async with open_host(CAROL, ()) as carol:
            await carol.connect(bob.addresses[0])
            assert await works(carol)
        with trio.fail_after(10):
            await until(lambda: trio.lowlevel.current_statistics().tasks_living <= alone)


async def test_guard_20_who_stays_keeps_his_place() -> None:
    """The bound still holds: libp2p lets two stay and keeps the third place for handshakes."""
    async with (
        open_host(BOB, ANY_PORT, limits=Limits(connections=3)) as bob,
        open_host(ALICE, ()) as alice,
        open_host(CAROL, ()) as carol,
        open_host(DAVE, ()) as dave,
    ):
        for host in (alice, carol):
            await host.connect(bob.addresses[0])
        with pytest.raises(Unreachable):
            await dave.connect(bob.addresses[0])
        await alice.disconnect(BOB.peer_id)
        with trio.fail_after(10):
            await until(lambda: bob.peers == {CAROL.peer_id})
        await dave.connect(bob.addresses[0])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not condition():  # noqa: ASYNC110  # on purpose
        await trio.sleep(0.01)


def test_guard_21_a_cancelled_connection_is_closed() -> None:
    """Stock: its socket stays open, and its peer does not learn of it, until the garbage is collected."""
    assert escaped(TRAPS["21"])


@pytest.fixture(scope="module")
def stock() -> dict[str, bool]:
    """What stock libp2p does well, by guard number."""
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.kit.libp2p_stock"], cwd=root, capture_output=True, timeout=120, check=True
    )
    found: dict[str, bool] = json.loads(ran.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted({**TRAPS, **HOSTS}))
def test_stock_libp2p_still_needs_the_guard(stock: dict[str, bool], number: str) -> None:
    """When this fails libp2p has mended something: take the guard out, and this situation with it."""
    assert not stock[number], f"libp2p does well without guard {number} now"


def test_every_guard_has_its_tests() -> None:
    named = {line.split()[0].zfill(2) for line in (guards.__doc__ or "").splitlines() if line[:2].strip().isdigit()}
    tested = {name.split("_")[2] for name in globals() if name.startswith("test_guard_")}
    assert named == tested
    assert {number[:2] for number in {**TRAPS, **HOSTS}} == named - {"07"}


async def test_more_streams_than_the_limit_are_refused_at_once() -> None:
    async with (
        open_host(ALICE, ANY_PORT, limits=Limits(outbound_streams=0)) as alice,
        open_host(BOB, ANY_PORT) as bob,
    ):
        await alice.connect(bob.addresses[0])
        with pytest.raises(Overloaded):
            await works(alice)
