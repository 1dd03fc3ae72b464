"""The pool over inline engines, on a virtual clock: seconds here cost nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import GenerationRequest, ModelCard, ModelId, ServiceClass
from meshnode.engine.back_off import BackOff
from meshnode.engine.gate import Gate
from meshnode.engine.pool import DEFAULT_LIMITS, Pool, PoolLimits, open_pool
from meshnode.errors import Conflict, Draining, ModelFailed, Overloaded
from meshnode.events import Event, Failed, Finished, Loading, Started, TextDelta
from meshnode.observe import Metrics
from tests.kit.engines import Stable, constant_entropy
from tests.kit.requests import card, endless

A, B, C = card("a"), card("b"), card("c")


class House:
    """A pool, its stable, and its metrics."""

    def __init__(self, pool: Pool, stable: Stable, metrics: Metrics) -> None:
        self.pool = pool
        self.stable = stable
        self.metrics = metrics

    async def ask(self, model: ModelCard, request: GenerationRequest | None = None) -> list[Event]:
        """All events of one request."""
        async with self.pool.generate(request or endless(tokens=3), model) as events:
            return [event async for event in events]

    def state(self, model: ModelCard) -> str:
        """A model's state in one word."""
        return self.pool.state(model.id).state

    async def kill(self, model: ModelCard, reason: str = "was killed by SIGKILL") -> None:
        """Let a loaded model's worker die, and the pool notice."""
        self.stable.alive[model.id].crash(reason)
        await trio.testing.wait_all_tasks_blocked()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let virtual time pass until something holds."""
        with trio.fail_after(1000):
            while not holds():  # noqa: ASYNC110  virtual time
                await trio.sleep(0.05)


@asynccontextmanager
async def house(limits: PoolLimits = DEFAULT_LIMITS, stable: Stable | None = None) -> AsyncIterator[House]:
    """A pool with nothing loaded."""
    stable, metrics = stable or Stable(), Metrics()
    async with open_pool(stable.open, metrics=metrics, entropy=constant_entropy, limits=limits) as pool:
        yield House(pool, stable, metrics)


def sample(metrics: Metrics, name: str) -> float:
    """The value of a metric's first series, 0 if it has none."""
    lines = [line for line in metrics.render()[0].decode().splitlines() if line.startswith(name)]
    return float(lines[0].split()[-1]) if lines else 0.0


# --- loading ------------------------------------------------------------------------------------


async def test_a_model_is_loaded_on_demand_and_the_caller_sees_how_far(autojump_clock: MockClock) -> None:
    async with house() as h:
        assert h.state(A) == "unloaded"
        events = await h.ask(A)
        assert [event.fraction for event in events if isinstance(event, Loading)] == [0, 0.25, 0.5, 0.75]
        assert isinstance(events[-1], Finished)
        assert h.state(A) == "ready"
        assert not any(isinstance(event, Loading) for event in await h.ask(A))
        assert h.stable.opened == ["a"]


async def test_callers_of_one_loading_model_share_the_load(autojump_clock: MockClock) -> None:
    ends: list[Event] = []

    async with house() as h:

        async def one() -> None:
            ends.append((await h.ask(A))[-1])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
            info = await h.pool.load(A)
        assert info.n_ctx == 8192
        assert h.stable.opened == ["a"]
    assert [type(event) for event in ends] == [Finished] * 10


async def test_a_caller_that_leaves_while_loading_does_not_stop_the_load(autojump_clock: MockClock) -> None:
    async with house() as h:
        with trio.move_on_after(0.5):
            await h.ask(A)
        await h.until(lambda: h.state(A) == "ready")
        assert h.stable.opened == ["a"]


async def test_a_load_that_fails_is_told_to_all_and_not_tried_again_unasked(autojump_clock: MockClock) -> None:
    async with house() as h:
        h.stable.failures = ["the file is truncated"]
        failed = (await h.ask(A))[-1]
        assert isinstance(failed, Failed)
        assert failed.code == "model_failed"
        assert "the file is truncated" in failed.message
        assert h.pool.state(A.id).reason == "the file is truncated"
        with pytest.raises(ModelFailed, match="truncated"):
            await h.ask(A)
        assert h.stable.opened == ["a"]


async def test_a_failed_model_can_be_loaded_when_asked_for(autojump_clock: MockClock) -> None:
    async with house() as h:
        h.stable.failures = ["no memory", "still no memory"]
        for _ in range(2):
            with pytest.raises(ModelFailed, match="no memory"):
                await h.pool.load(A)
        await h.pool.load(A)
        assert h.state(A) == "ready"


async def test_a_failed_model_whose_file_was_replaced_is_tried_again(autojump_clock: MockClock) -> None:
    async with house() as h:
        h.stable.failures = ["the file is truncated"]
        await h.ask(A)
        assert isinstance((await h.ask(card("a", sha256="another")))[-1], Finished)


# --- room ---------------------------------------------------------------------------------------


async def test_the_least_recently_used_idle_model_makes_room(autojump_clock: MockClock) -> None:
    async with house(PoolLimits(max_loaded=2)) as h:
        for model in (A, B, A, C):
            await h.ask(model)
        assert {"a", "c"} == set(h.stable.alive)
        assert (h.state(A), h.state(B), h.state(C)) == ("ready", "unloaded", "ready")


async def test_memory_is_free_before_the_next_model_is_loaded(autojump_clock: MockClock) -> None:
    async with house() as h:
        for model in (A, B, A, B):
            await h.ask(model)
            assert list(h.stable.alive) == [model.id]


async def test_a_busy_model_is_not_evicted_but_named(autojump_clock: MockClock) -> None:
    async with house() as h, h.pool.generate(endless(), A) as events:
        await anext(events)
        with pytest.raises(Overloaded, match=r"b is not loaded.* a is busy") as caught:
            await h.ask(B)
        assert caught.value.retry_after_s
        assert not isinstance((await h.ask(A))[-1], Failed)


async def test_guests_do_not_keep_the_room_that_the_owner_needs(autojump_clock: MockClock) -> None:
    guest = endless(tokens=10_000, service_class=ServiceClass.NEWCOMER)
    async with house() as home, home.pool.generate(guest, A) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
        with pytest.raises(Overloaded):  # another guest does not take it
            await home.ask(B, endless(tokens=3, service_class=ServiceClass.NEWCOMER))
        assert isinstance((await home.ask(B))[-1], Finished)
        rest = [event async for event in events]
        assert isinstance(rest[-1], Failed)
        assert rest[-1].code == "draining"


async def test_a_model_that_the_owner_uses_beside_a_guest_stays(autojump_clock: MockClock) -> None:
    guest = endless(tokens=10_000, service_class=ServiceClass.NEWCOMER)
    async with house() as home, home.pool.generate(guest, A), home.pool.generate(endless(tokens=10_000), A):
        with pytest.raises(Overloaded, match="a is busy"):
            await home.ask(B)


async def test_a_model_that_is_loading_for_somebody_is_busy_too(autojump_clock: MockClock) -> None:
    async with house() as h, trio.open_nursery() as nursery:
        nursery.start_soon(h.pool.load, A)
        await trio.sleep(0.5)
        with pytest.raises(Overloaded):
            await h.pool.load(B)


async def test_unloading_frees_the_memory_and_spares_the_busy(autojump_clock: MockClock) -> None:
    async with house() as h:
        async with h.pool.generate(endless(), A) as events:
            await anext(events)
            with pytest.raises(Conflict, match="1 request"):
                await h.pool.unload(A.id)
        await h.pool.unload(A.id)
        assert h.stable.alive == {}
        assert h.pool.states() == ()
        await h.pool.unload(ModelId("never heard of"))
        assert isinstance((await h.ask(A))[-1], Finished)


# --- deaths -------------------------------------------------------------------------------------


async def test_a_worker_that_dies_is_started_again_and_callers_wait_for_it(autojump_clock: MockClock) -> None:
    async with house() as h:
        async with h.pool.generate(endless(), A) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    await h.kill(A)
        assert isinstance(event, Failed)
        assert event.code == "worker_died"
        assert h.state(A) == "loading"
        assert "SIGKILL" in h.pool.state(A.id).reason
        again = await h.ask(A)
        assert isinstance(again[0], Loading)
        assert isinstance(again[-1], Finished)
        assert (h.state(A), h.pool.state(A.id).restarts, h.pool.state(A.id).reason) == ("ready", 1, "")
        assert sample(h.metrics, 'meshnode_worker_restarts_total{model="a"}') == 1


async def test_a_request_never_meets_a_dead_engine(autojump_clock: MockClock) -> None:
    async with house() as h:
        await h.ask(A)
        h.stable.alive["a"].crash("was killed")
        assert isinstance((await h.ask(A))[-1], Finished)


async def test_three_deaths_in_a_row_withdraw_the_model_with_the_reason(autojump_clock: MockClock) -> None:
    async with house() as h:
        await h.pool.load(A)
        for _ in range(3):
            await h.until(lambda: "a" in h.stable.alive)
            await h.kill(A, "was killed by SIGSEGV")
        assert h.state(A) == "failed"
        assert "3 times in a row" in h.pool.state(A.id).reason
        assert "SIGSEGV" in h.pool.state(A.id).reason
        with pytest.raises(ModelFailed, match="SIGSEGV"):
            await h.ask(A)
        await h.pool.load(A)
        assert isinstance((await h.ask(A))[-1], Finished)


async def test_a_finished_request_forgives_the_deaths_before_it(autojump_clock: MockClock) -> None:
    async with house() as h:
        for _ in range(5):
            await h.ask(A)
            await h.kill(A)
            await h.until(lambda: "a" in h.stable.alive)
            await h.kill(A)
        assert isinstance((await h.ask(A))[-1], Finished)
        assert h.pool.state(A.id).restarts == 10


async def test_loads_that_fail_after_a_death_count_as_deaths(autojump_clock: MockClock) -> None:
    async with house() as h:
        await h.ask(A)
        h.stable.failures = ["no memory", "no memory"]
        await h.kill(A)
        events = await h.ask(A)
        assert isinstance(events[-1], Failed)
        assert "no memory" in events[-1].message
        assert len(h.stable.opened) == 3


async def test_waits_between_restarts_grow(autojump_clock: MockClock) -> None:
    async with house(PoolLimits(back_off=BackOff(10.0, 100.0))) as h:
        await h.pool.load(A)
        waits = []
        for _ in range(2):
            await h.kill(A)
            died = trio.current_time()
            before = len(h.stable.opened)
            await h.until(lambda before=before: len(h.stable.opened) > before)  # type: ignore[misc]
            waits.append(trio.current_time() - died)
            await h.until(lambda: "a" in h.stable.alive)
        assert 10 <= waits[0] < 10.1
        assert waits[1] > 15


# --- bounds and ends ----------------------------------------------------------------------------


async def test_the_queue_is_bounded_and_counted(autojump_clock: MockClock) -> None:
    async with house(PoolLimits(max_queued=3), Stable(n_seq_max=1)) as h, AsyncExitStack() as stack:
        running = await stack.enter_async_context(h.pool.generate(endless(), A))
        while not isinstance(await anext(running), Started):
            pass
        for _ in range(3):
            await stack.enter_async_context(h.pool.generate(endless(), A))
        assert sample(h.metrics, "meshnode_queue_length") == 3
        with pytest.raises(Overloaded, match="3 requests wait"):
            await h.ask(A)
        await stack.aclose()
        assert sample(h.metrics, "meshnode_queue_length") == 0
        assert isinstance((await h.ask(A))[-1], Finished)


async def test_where_nobody_may_wait_an_idle_engine_answers(autojump_clock: MockClock) -> None:
    async with house(PoolLimits(max_queued=0), Stable(n_seq_max=1)) as h:
        assert isinstance((await h.ask(A))[-1], Finished)
        async with h.pool.generate(endless(), A) as running:
            while not isinstance(await anext(running), Started):
                pass
            async with h.pool.generate(endless(), A):
                with pytest.raises(Overloaded, match="wait already"):
                    await h.ask(A)


async def test_draining_ends_running_and_waiting_callers_and_refuses_new_ones(autojump_clock: MockClock) -> None:
    ends: list[Event] = []

    async def one(h: House, model: ModelCard) -> None:
        ends.append((await h.ask(model, endless()))[-1])

    async with house(PoolLimits(max_loaded=2)) as h, trio.open_nursery() as nursery:
        await h.pool.load(A)
        nursery.start_soon(one, h, A)
        nursery.start_soon(one, h, B)
        await trio.sleep(0.3)
        await h.pool.drain()
        assert h.pool.draining
        with pytest.raises(Draining):
            await h.ask(A)
        with pytest.raises(Draining):
            await h.pool.load(C)
    assert [event.code for event in ends if isinstance(event, Failed)] == ["draining", "draining"]


async def test_closing_the_pool_ends_who_still_reads(autojump_clock: MockClock) -> None:
    async with AsyncExitStack() as stack:
        async with house() as h:
            events = await stack.enter_async_context(h.pool.generate(endless(), A))
            await anext(events)
        rest = [event async for event in events]
    assert isinstance(rest[-1], Failed)
    assert h.stable.alive == {}


async def test_each_answer_ends_exactly_once_and_then_gives_nothing(autojump_clock: MockClock) -> None:
    async with house() as h, h.pool.generate(endless(tokens=2), A) as events:
        assert sum(isinstance(event, Finished | Failed) for event in [event async for event in events]) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_what_is_paid_while_the_model_is_being_loaded_counts(autojump_clock: MockClock) -> None:
    gate = Gate(prefill=0, decode=0)
    async with house() as h, h.pool.generate(endless(tokens=5), A, gate) as events:
        assert isinstance(await anext(events), Loading)
        gate.allow(prefill=100, decode=3)
        with trio.move_on_after(100) as scope:
            rest = [event async for event in events]
        assert scope.cancelled_caught, "the fourth position is not paid"
        gate.allow(decode=4)
        rest = [event async for event in events]
        assert isinstance(rest[-1], Finished)
