"""What every stream between peers must do, on libp2p over loopback and on the network in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from meshnode.errors import Overloaded, ProtocolViolation, StreamReset, Unreachable
from meshnode.net.transport import Limits, Stream, Transport
from tests.kit.peers import ALICE, BOB
from tests.kit.streams import ANY_PORT, ECHO, MIB, Opener, Witness, echo, read_all


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """Nothing here may hang."""
    with trio.fail_after(60):
        yield


# --- streams ------------------------------------------------------------------------------------


async def test_echo_and_half_close(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        assert (stream.peer, stream.protocol) == (BOB.peer_id, ECHO)
        await stream.write(b"hello")
        assert await stream.read(2) == b"he"
        assert await stream.read() == b"llo"
        await stream.close_write()
        assert await stream.read() == b""
        assert await stream.read() == b""  # an end stays an end
        with pytest.raises(trio.ClosedResourceError):
            await stream.write(b"more")


async def test_the_called_one_can_call_back(alice: Transport, bob: Transport) -> None:
    alice.set_handler(ECHO, echo)
    await alice.connect(bob.addresses[0])
    await bob.wait_change(frozenset())
    async with bob.open_stream(ALICE.peer_id, ECHO) as stream:
        await stream.write(b"back")
        assert await stream.read() == b"back"


async def test_an_unknown_protocol_is_named(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    with pytest.raises(ProtocolViolation, match="does not speak /test/none/1"):
        async with alice.open_stream(BOB.peer_id, "/test/none/1"):
            pass
    bob.remove_handler(ECHO)
    with pytest.raises(ProtocolViolation, match=ECHO):
        async with alice.open_stream(BOB.peer_id, ECHO):
            pass


async def test_eight_mebibytes_both_ways(alice: Transport, bob: Transport) -> None:
    data = bytes(range(256)) * (8 * MIB // 256)
    await alice.connect(bob.addresses[0])

    async def send() -> None:
        await stream.write(data)
        await stream.close_write()

    async with alice.open_stream(BOB.peer_id, ECHO) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await read_all(stream) == data


async def test_two_hundred_streams_one_after_another(alice: Transport, bob: Transport) -> None:
    await alice.connect(bob.addresses[0])
    for number in range(200):
        async with alice.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"%d" % number)
            assert await stream.read() == b"%d" % number


async def test_more_streams_than_allowed_are_refused_and_come_back(opener: Opener, bob: Transport) -> None:
    async with opener(ALICE, ANY_PORT, limits=Limits(outbound_streams=3)) as alice:
        await alice.connect(bob.addresses[0])
        async with (
            alice.open_stream(BOB.peer_id, ECHO),
            alice.open_stream(BOB.peer_id, ECHO),
            alice.open_stream(BOB.peer_id, ECHO),
        ):
            with pytest.raises(Overloaded):
                async with alice.open_stream(BOB.peer_id, ECHO):
                    pass
        async with alice.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.write(b"again")
            assert await stream.read() == b"again"


async def test_a_peer_with_too_many_streams_is_refused(opener: Opener, alice: Transport) -> None:
    async with opener(BOB, ANY_PORT, limits=Limits(inbound_streams=4)) as bob:
        bob.set_handler(ECHO, echo)
        await alice.connect(bob.addresses[0])
        async with alice.open_stream(BOB.peer_id, ECHO) as first, trio.open_nursery() as nursery:
            refused = [trio.Event() for _ in range(12)]
            for event in refused:
                nursery.start_soon(hold, alice, event, refused)
            for event in refused[:9]:
                await event.wait()
            await first.write(b"still here")
            assert await first.read() == b"still here"
            nursery.cancel_scope.cancel()


async def hold(host: Transport, done: trio.Event, all_done: list[trio.Event]) -> None:
    """Try to hold a stream; note, in the order it happens, that it was refused."""
    try:
        async with host.open_stream(BOB.peer_id, ECHO) as stream:
            await stream.read()
    except (StreamReset, Unreachable):
        next(event for event in all_done if not event.is_set()).set()


# --- endings ------------------------------------------------------------------------------------


async def test_close_delivers_what_was_written(alice: Transport, bob: Transport) -> None:
    bob.set_handler(ECHO, witness := Witness())
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await stream.write(b"a" * 100_000)
    await witness.over.wait()
    assert (witness.end, len(witness.data)) == ("end", 100_000)


async def test_after_close_the_peers_writes_fail(alice: Transport, bob: Transport) -> None:
    failed = trio.Event()

    async def talk(stream: Stream) -> None:
        try:
            while True:
                await stream.write(b"bla" * 1000)
        except StreamReset:
            failed.set()

    bob.set_handler(ECHO, talk)
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await stream.read()
    await failed.wait()
    with pytest.raises(trio.ClosedResourceError):
        await stream.read()


async def test_a_reset_is_no_end(alice: Transport, bob: Transport) -> None:
    bob.set_handler(ECHO, witness := Witness())
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        await stream.write(b"half a")
        await witness.began.wait()
        await stream.reset()
        await stream.reset()
    await witness.over.wait()
    assert witness.end == "StreamReset"


async def test_a_cancelled_task_tells_its_peer(alice: Transport, bob: Transport) -> None:
    bob.set_handler(ECHO, witness := Witness())
    await alice.connect(bob.addresses[0])
    with trio.CancelScope() as scope:
        async with alice.open_stream(BOB.peer_id, ECHO) as stream:
            await witness.began.wait()
            scope.cancel()
            await stream.read()
    await witness.over.wait()
    assert witness.end == "StreamReset"


async def test_an_exception_passes_through_unwrapped(alice: Transport, bob: Transport) -> None:
    bob.set_handler(ECHO, witness := Witness())
    await alice.connect(bob.addresses[0])

    async def fail() -> None:
        async with alice.open_stream(BOB.peer_id, ECHO):
            await witness.began.wait()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    await witness.over.wait()
    assert witness.end == "StreamReset"


async def test_a_cancelled_host_closes(opener: Opener, alice: Transport) -> None:
    with trio.CancelScope() as scope:
        async with opener(BOB, ANY_PORT) as bob:
            bob.set_handler(ECHO, echo)
            address = bob.addresses[0]
            await alice.connect(address)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    await alice.wait_change(frozenset([BOB.peer_id]))
    with pytest.raises(Unreachable):
        await alice.connect(address)


async def test_a_host_lets_the_callers_exception_through(opener: Opener) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with opener(ALICE, ANY_PORT):
            raise KeyError("mine")


async def test_a_handler_that_fails_resets_its_stream_only(alice: Transport, bob: Transport) -> None:
    async def fail(stream: Stream) -> None:
        await stream.read()
        raise ZeroDivisionError("of the handler")

    bob.set_handler("/test/fail/1", fail)
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as well:
        async with alice.open_stream(BOB.peer_id, "/test/fail/1") as ill:
            await ill.write(b"x")
            with pytest.raises(StreamReset):
                await ill.read()
        await well.write(b"still here")
        assert await well.read() == b"still here"


async def test_reset_wakes_the_task_that_reads(alice: Transport, bob: Transport) -> None:
    woken = trio.Event()

    async def read(stream: Stream) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.read()
        woken.set()

    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, ECHO) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(read, stream)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await stream.reset()
        await woken.wait()


async def test_a_cancelled_read_loses_nothing(alice: Transport, bob: Transport) -> None:
    data = bytes(range(256)) * 400

    async def dribble(stream: Stream) -> None:
        for start in range(0, len(data), 100):
            await stream.write(data[start : start + 100])

    bob.set_handler(ECHO, dribble)
    await alice.connect(bob.addresses[0])
    got = b""
    async with alice.open_stream(BOB.peer_id, ECHO) as stream:
        for turn in range(1_000_000):
            piece = None
            with trio.move_on_after(0 if turn % 2 else 0.0005):
                piece = await stream.read(77)
            if piece == b"":
                break
            got += piece or b""
    assert got == data


async def test_who_does_not_read_makes_the_writer_wait(alice: Transport, bob: Transport) -> None:
    written = 0

    async def flood(stream: Stream) -> None:
        nonlocal written
        while written < 16 * MIB:
            await stream.write(b"x" * 65536)
            written += 65536

    bob.set_handler("/test/flood/1", flood)
    await alice.connect(bob.addresses[0])
    async with alice.open_stream(BOB.peer_id, "/test/flood/1") as stream:
        await stream.read(1)
        before = -1
        while before != written:  # until it moves no more
            before = written
            await trio.testing.wait_all_tasks_blocked(0.1)
        assert written < 3 * MIB
        async with alice.open_stream(BOB.peer_id, ECHO) as other:  # the other streams go on
            await other.write(b"meanwhile")
            assert await other.read() == b"meanwhile"
        assert len(await read_all(stream)) == 16 * MIB - 1
