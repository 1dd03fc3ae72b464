"""The inline engine on a virtual clock; what it shares with the worker is in the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import trio
from trio.testing import MockClock

from meshnode.engine.fake import FakeBackend
from meshnode.engine.inline import InlineEngine, open_inline
from meshnode.events import Failed, Finished, TextDelta
from tests.kit.engines import constant_entropy
from tests.kit.requests import endless


@asynccontextmanager
async def opened(step_s: float) -> AsyncIterator[InlineEngine]:
    """An engine of two slots."""
    now = datetime(2025, 1, 1, tzinfo=UTC)
    async with open_inline(
        FakeBackend(n_seq_max=2), entropy=constant_entropy, now=lambda: now, step_s=step_s
    ) as engine:
        yield engine


async def test_each_step_takes_its_virtual_time(autojump_clock: MockClock) -> None:
    async with opened(step_s=2.0) as engine, engine.generate(endless("x", tokens=10)) as events:
        began = trio.current_time()
        times = [trio.current_time() - began async for event in events if isinstance(event, TextDelta | Finished)]
    assert times[0] == 2.0
    assert times[-1] == 20.0


async def test_it_does_nothing_while_nobody_asks(autojump_clock: MockClock) -> None:
    async with opened(step_s=1.0):
        before = trio.current_time()
        await trio.sleep(1000)
        assert trio.current_time() == before + 1000


async def test_a_slot_held_by_a_reader_that_stands_still_goes_to_who_waits(autojump_clock: MockClock) -> None:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(opened(step_s=0.01))
        for name in "ab":
            await anext(await stack.enter_async_context(engine.generate(endless(name))))
        async with engine.generate(endless("c", tokens=3)) as third:
            with trio.fail_after(60):
                assert isinstance([event async for event in third][-1], Finished)


async def test_a_crash_is_a_workers_death(autojump_clock: MockClock) -> None:
    async with opened(step_s=0.01) as engine, engine.generate(endless("a")) as events:
        await anext(events)
        engine.crash("was killed")
        rest = [event async for event in events]
        assert isinstance(rest[-1], Failed)
        assert rest[-1].code == "worker_died"
        assert (await engine.died()).reason == "was killed"
        assert engine.dead
