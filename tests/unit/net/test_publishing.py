"""What is published when: pace, renewal, second tries."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.net.directory import Key, Outcome, Timing, key_for, stem_of
from meshnode.net.publishing import Publisher
from tests.kit.peers import ALICE

ME = ALICE.peer_id


def key(name: str, shards: int = 1) -> Key:
    """Where we stand under a name."""
    return key_for(stem_of("net", name), ME, shards)


class Mesh:
    """Others, who do as they are told, and when they were written to."""

    def __init__(self) -> None:
        self.outcome = Outcome.PLACED
        self.written: list[tuple[float, Key]] = []
        self.turn: Callable[[], Awaitable[None]] | None = None

    async def write(self, where: Key) -> Outcome:
        """Note it."""
        assert self.turn is not None
        await self.turn()
        self.written.append((trio.current_time(), where))
        return self.outcome

    def times(self, name: str) -> list[float]:
        """When a name was written."""
        return [round(time, 3) for time, where in self.written if where.stem == key(name).stem]


@asynccontextmanager
async def publishing(timing: Timing | None = None) -> AsyncIterator[tuple[Publisher, Mesh]]:
    """A publisher at work, with time at zero."""
    mesh = Mesh()
    publisher = Publisher("net", ME, timing or Timing(), mesh.write)
    mesh.turn = publisher.turn
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        yield publisher, mesh
        nursery.cancel_scope.cancel()


async def test_names_are_published_verified_and_renewed(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    async with publishing() as (publisher, mesh):
        publisher.replace(["a", "b"])
        assert publisher.published == frozenset()
        await trio.sleep(1000)
        assert publisher.published == {"a", "b"}
        assert publisher.provides(key("a"))
        assert not publisher.provides(key("c"))
        assert [time - start for time in mesh.times("a")] == [0, 240, 480, 720, 960]


async def test_no_more_than_nine_keys_are_published_in_ten_seconds(autojump_clock: MockClock) -> None:
    async with publishing() as (publisher, mesh):
        publisher.replace([f"m{number}" for number in range(50)])
        await trio.sleep(200)
        times = [time for time, _ in mesh.written]
        assert len(times) == len(publisher.published) == 50
        assert all(later - earlier >= 10 for earlier, later in zip(times, times[9:], strict=False))
        assert times[-1] - times[0] < 60


async def test_what_fails_is_tried_again_ever_more_slowly_and_at_once_when_asked(autojump_clock: MockClock) -> None:
    async with publishing() as (publisher, mesh):
        mesh.outcome = Outcome.REFUSED
        start = trio.current_time()
        publisher.replace(["a"])
        await trio.sleep(300)
        times = sorted({time - start for time in mesh.times("a")})
        assert times[:6] == [0, 1, 3, 7, 15, 31]
        assert all(later - earlier == 60 for earlier, later in itertools.pairwise(times[7:]))
        assert publisher.published == frozenset()
        mesh.outcome = Outcome.PLACED
        publisher.hurry()
        await wait_all_tasks_blocked()
        assert publisher.published == {"a"}


async def test_a_name_that_cannot_be_renewed_expires(autojump_clock: MockClock) -> None:
    async with publishing() as (publisher, mesh):
        publisher.replace(["a"])
        await trio.sleep(1)
        mesh.outcome = Outcome.FULL
        await trio.sleep(590)
        assert publisher.published == {"a"}
        await trio.sleep(20)
        assert publisher.published == frozenset()


async def test_replacing_leaves_alone_what_stays(autojump_clock: MockClock) -> None:
    async with publishing() as (publisher, mesh):
        publisher.replace(["old", "kept"])
        await trio.sleep(10)
        publisher.replace(["kept", "new"])
        assert publisher.published == {"kept"}
        assert not publisher.provides(key("old"))
        await trio.sleep(300)
        assert publisher.published == {"kept", "new"}
        assert [len(mesh.times(name)) for name in ("old", "kept", "new")] == [1, 2, 2]
        publisher.hurry()
        await wait_all_tasks_blocked()
        assert len(mesh.times("kept")) == 2
        publisher.hurry(everything=True)
        await wait_all_tasks_blocked()
        assert len(mesh.times("kept")) == 3


async def test_a_name_with_a_full_key_stands_above(autojump_clock: MockClock) -> None:
    async with publishing() as (publisher, mesh):

        async def full_below_four(where: Key) -> Outcome:
            await trio.lowlevel.checkpoint()
            return Outcome.FULL if where.shards < 4 else Outcome.PLACED

        publisher._write = full_below_four
        publisher.replace(["a"])
        await wait_all_tasks_blocked()
        assert publisher.provides(key("a", 4))
        assert not publisher.provides(key("a", 1))
        assert not mesh.written
