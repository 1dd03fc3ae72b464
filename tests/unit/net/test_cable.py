"""Pipes: bytes arrive in order, when they are due, and never more than the window."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import StreamReset, Unreachable
from meshnode.net.cable import WINDOW, Cable, MemoryStream, Pipe
from tests.kit.peers import ALICE, BOB


def cable(delay_s: float = 0.0) -> Cable:
    return Cable(ALICE.peer_id, BOB.peer_id, "/ip4/10.0.0.1/tcp/1", lambda: delay_s)


def streams(between: Cable) -> tuple[MemoryStream, MemoryStream]:
    one, two = Pipe(between), Pipe(between)
    return (
        MemoryStream(between, BOB.peer_id, "/test/1", inbound=one, outbound=two),
        MemoryStream(between, ALICE.peer_id, "/test/1", inbound=two, outbound=one),
    )


@given(st.lists(st.binary(max_size=50), max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_bytes_keep_their_order_however_they_are_cut(pieces: list[bytes], limits: list[int]) -> None:
    async def run() -> bytes:
        near, far = streams(cable())
        for piece in pieces:
            await near.write(piece)
        await near.close_write()
        got, turn = b"", 0
        while data := await far.read(limits[turn % len(limits)]):
            assert len(data) <= limits[turn % len(limits)]
            got, turn = got + data, turn + 1
        return got

    assert trio.run(run, clock=trio.testing.MockClock()) == b"".join(pieces)


async def test_a_pipe_takes_a_window_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    pipe = Pipe(cable())
    assert len(pipe.put(memoryview(bytes(WINDOW + 10)))) == 10
    assert len(pipe.put(memoryview(b"x"))) == 1
    assert pipe.take(5) == bytes(5)
    assert len(pipe.put(memoryview(b"123456"))) == 1


async def test_a_byte_takes_its_time(autojump_clock: trio.testing.MockClock) -> None:
    near, far = streams(cable(0.5))
    start = trio.current_time()
    await near.write(b"slow")
    assert await far.read() == b"slow"
    assert trio.current_time() - start == pytest.approx(0.5)
    await far.reset()
    with pytest.raises(StreamReset):
        await near.read()
    assert trio.current_time() - start == pytest.approx(1.0)


async def test_a_lost_cable_ends_waiting_on_both_ends(autojump_clock: trio.testing.MockClock) -> None:
    between = cable()
    near, far = streams(between)

    async def reads(stream: MemoryStream) -> None:
        with pytest.raises(Unreachable):
            await stream.read()

    async with trio.open_nursery() as nursery:
        for stream in (near, far):
            nursery.start_soon(reads, stream)
        await trio.testing.wait_all_tasks_blocked()
        between.lose()


async def test_a_silent_cable_holds_everything_and_lets_it_go(autojump_clock: trio.testing.MockClock) -> None:
    between = cable()
    near, far = streams(between)
    between.set_silent(True)
    await near.write(b"held")
    with trio.move_on_after(100) as waited:
        await far.read()
    assert waited.cancelled_caught
    between.set_silent(False)
    assert await far.read() == b"held"
    assert between.times_silent == 1
