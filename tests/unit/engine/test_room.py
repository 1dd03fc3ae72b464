"""Models that share one memory in a pool, and what happens to those that nobody uses; on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.domain import ModelCard
from meshnode.engine.pool import Pool, PoolLimits, open_pool
from meshnode.engine.room import Room, Tenant, Verdict, boundless
from meshnode.errors import ModelFailed, Overloaded
from meshnode.events import Event, Finished, Loading
from meshnode.observe import Metrics
from tests.kit.engines import Stable, constant_entropy
from tests.kit.requests import card, endless

SMALL, MEDIUM, LARGE = card("small", size=2), card("medium", size=5), card("large", size=8)


def within(size: int) -> Room:
    """A memory of this many bytes, of which a model takes its file's size."""

    def room(model: ModelCard, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Verdict:
        taken = sum(tenant.card.size for tenant in staying)
        return Verdict(taken + model.size <= size, f"{model.id} takes {model.size} of {size - taken} bytes.")

    return room


class House:
    """A pool and its stable."""

    def __init__(self, pool: Pool, stable: Stable) -> None:
        self.pool = pool
        self.stable = stable

    async def ask(self, model: ModelCard) -> list[Event]:
        """All events of one request."""
        async with self.pool.generate(endless(tokens=3), model) as events:
            return [event async for event in events]

    @property
    def loaded(self) -> set[str]:
        """What is in memory."""
        return set(self.stable.alive)


@asynccontextmanager
async def house(room: Room, *, idle_unload_s: float = 0.0, max_loaded: int = 9) -> AsyncIterator[House]:
    """A pool with nothing loaded."""
    stable = Stable()
    limits = PoolLimits(max_loaded=max_loaded, idle_unload_s=idle_unload_s)
    async with open_pool(stable.open, metrics=Metrics(), entropy=constant_entropy, limits=limits, room=room) as pool:
        yield House(pool, stable)


# --- one memory ---------------------------------------------------------------------------------


async def test_models_stay_beside_each_other_while_they_fit(autojump_clock: MockClock) -> None:
    async with house(within(10)) as h:
        await h.ask(SMALL)
        await h.ask(LARGE)
        assert h.loaded == {"small", "large"}


async def test_those_used_longest_ago_make_room_and_no_more_of_them_than_needed(autojump_clock: MockClock) -> None:
    async with house(within(10)) as h:
        for model in (MEDIUM, SMALL, card("tiny", size=1), MEDIUM):
            await h.ask(model)
        await h.ask(card("other", size=3))
        assert h.loaded == {"tiny", "medium", "other"}


async def test_the_cap_holds_beside_the_memory(autojump_clock: MockClock) -> None:
    async with house(within(100), max_loaded=2) as h:
        for model in (SMALL, MEDIUM, LARGE):
            await h.ask(model)
        assert h.loaded == {"medium", "large"}


async def test_a_busy_model_keeps_its_memory_and_the_refusal_has_numbers(autojump_clock: MockClock) -> None:
    async with house(within(10)) as h, h.pool.generate(endless(), MEDIUM) as events:
        await anext(events)
        await h.ask(SMALL)
        with pytest.raises(Overloaded, match=r"large is not.* medium is busy: large takes 8 of 5 bytes") as caught:
            await h.ask(LARGE)
        assert caught.value.retry_after_s
        assert h.loaded == {"small", "medium"}, "nobody is evicted in vain"


async def test_what_fits_not_even_alone_is_refused_with_numbers_and_nobody_leaves(autojump_clock: MockClock) -> None:
    async with house(within(10)) as h:
        await h.ask(SMALL)
        with pytest.raises(ModelFailed, match=r"huge takes 99 of 10 bytes.*context"):
            await h.ask(card("huge", size=99))
        assert h.loaded == {"small"}


async def test_who_leaves_is_still_there_until_it_is_gone(autojump_clock: MockClock) -> None:
    asked: list[tuple[list[Tenant], list[Tenant]]] = []

    def room(_model: ModelCard, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Verdict:
        asked.append((list(staying), list(leaving)))
        return Verdict(not staying, "one at a time")

    async with house(room) as h:
        await h.ask(SMALL)
        await h.ask(MEDIUM)
    assert asked[1:] == [([Tenant(SMALL, settled=True)], []), ([], [Tenant(SMALL, settled=True)])]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_no_order_of_requests_fills_the_memory_over(sizes: list[int]) -> None:
    async def scenario() -> None:
        async with house(within(10)) as h:
            for size in sizes:
                assert isinstance((await h.ask(card(f"m{size}", size=size)))[-1], Finished)
                assert sum(int(name[1:]) for name in h.loaded) <= 10

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


# --- nobody uses it -----------------------------------------------------------------------------


async def test_a_model_that_nobody_used_for_the_time_is_unloaded_and_comes_back(autojump_clock: MockClock) -> None:
    async with house(boundless, idle_unload_s=60) as h:
        await h.ask(SMALL)
        await trio.sleep(59)
        assert h.loaded == {"small"}
        await trio.sleep(1.5)
        assert h.loaded == set()
        assert h.pool.state(SMALL.id).state == "unloaded"
        events = await h.ask(SMALL)
        assert isinstance(events[0], Loading)
        assert isinstance(events[-1], Finished)


async def test_every_use_begins_the_time_anew_and_each_model_has_its_own(autojump_clock: MockClock) -> None:
    async with house(boundless, idle_unload_s=60) as h:
        await h.ask(MEDIUM)
        for _ in range(4):
            await trio.sleep(40)
            await h.ask(SMALL)
        assert h.loaded == {"small"}


async def test_a_model_in_use_is_never_unloaded(autojump_clock: MockClock) -> None:
    async with house(boundless, idle_unload_s=5) as h:
        async with h.pool.generate(endless(tokens=8000), SMALL) as events:
            await trio.sleep(300)
            assert h.loaded == {"small"}
            async for event in events:
                last = event
        assert isinstance(last, Finished)


async def test_a_long_load_that_nobody_waits_for_counts_from_its_end(autojump_clock: MockClock) -> None:
    async with house(boundless, idle_unload_s=5) as h:
        h.stable.load_s = 100
        with trio.move_on_after(1):
            await h.ask(SMALL)
        await trio.sleep(103)
        assert h.loaded == {"small"}
        await trio.sleep(5)
        assert h.loaded == set()


async def test_without_a_time_nothing_is_unloaded(autojump_clock: MockClock) -> None:
    async with house(boundless) as h:
        await h.ask(SMALL)
        await trio.sleep(80_000)
        assert h.loaded == {"small"}
