"""A growing answer and its readers; how a run ends is in the jobs' tests."""

from __future__ import annotations

import trio

from meshnode.events import Event, Queued, Started, TextDelta
from meshnode.gateway.run import Follower, Growing


async def read(growing: Growing, into: list[Event]) -> None:
    """Read to the end."""
    async for event in Follower(growing):
        into.append(event)


async def test_every_reader_gets_the_same_however_late_it_comes() -> None:
    growing, early, late = Growing(), list[Event](), list[Event]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, growing, early)
        await trio.testing.wait_all_tasks_blocked()
        growing.add([Queued(1), Started(5), TextDelta("a"), TextDelta("b")])
        await trio.testing.wait_all_tasks_blocked()
        assert early == [Started(5), TextDelta("ab")]
        growing.add([TextDelta("c")])
        nursery.start_soon(read, growing, late)
        await trio.testing.wait_all_tasks_blocked()
        growing.end()
    assert early == late == [Started(5), TextDelta("ab"), TextDelta("c")]


async def test_one_that_is_over_is_read_to_its_end() -> None:
    told: list[Event] = []
    await read(Growing([Started(5)], over=True), told)
    assert told == [Started(5)]
