"""The local dispatcher over a real pool of inline engines, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from meshnode.domain import FIRST_TOKEN_S, GenerationRequest, ModelCard, ModelId, Sampling
from meshnode.engine.gate import Gate
from meshnode.engine.pool import DEFAULT_LIMITS, Pool, PoolLimits, open_pool
from meshnode.errors import Draining, ModelFailed, ModelNotFound, Overloaded
from meshnode.events import Event, Failed, Finished, Loading, Prefilling, Started, TextDelta
from meshnode.mesh.answer import Route
from meshnode.mesh.local import LocalDispatcher
from meshnode.observe import Metrics
from tests.kit.engines import Stable, constant_entropy
from tests.kit.requests import card, endless

A, B = card("a"), card("b")
SECRET = "my diary of 1987"


class Shelf:
    """Two models; the first is the default."""

    def resolve(self, name: str | None) -> ModelCard:
        """By name."""
        known: dict[str | None, ModelCard] = {None: A, "a": A, "alias": A, "b": B}
        if name not in known:
            raise ModelNotFound(f"no model {name!r}")
        return known[name]


class Desk:
    """A dispatcher, and everything behind it."""

    def __init__(self, dispatcher: LocalDispatcher, pool: Pool, stable: Stable, metrics: Metrics) -> None:
        self.dispatcher = dispatcher
        self.pool = pool
        self.stable = stable
        self.metrics = metrics

    async def ask(self, request: GenerationRequest, gate: Gate | None = None) -> tuple[list[Event], Route]:
        """All events of one request, and its route."""
        async with self.dispatcher.open(request, gate=gate) as answer:
            return [event async for event in answer], answer.route

    def sample(self, series: str) -> float:
        """The value of one metric."""
        lines = [line for line in self.metrics.render()[0].decode().splitlines() if line.startswith(series)]
        return float(lines[0].split()[-1]) if lines else 0.0


@asynccontextmanager
async def desk(limits: PoolLimits = DEFAULT_LIMITS, stable: Stable | None = None) -> AsyncIterator[Desk]:
    """A dispatcher with nothing loaded."""
    stable, metrics = stable or Stable(), Metrics()
    async with open_pool(stable.open, metrics=metrics, entropy=constant_entropy, limits=limits) as pool:
        yield Desk(LocalDispatcher(Shelf(), pool, metrics, node="alice"), pool, stable, metrics)


def ends(events: list[Event]) -> list[Event]:
    """The closing events; there must be one."""
    return [event for event in events if isinstance(event, Finished | Failed)]


def text_of(events: list[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_request_is_answered_by_the_model_its_name_stands_for(autojump_clock: MockClock) -> None:
    async with desk() as d:
        for name in ("alias", "", "a"):
            events, route = await d.ask(endless(model=name, tokens=3))
            assert (route.kind, route.model, route.node, route.attempts) == ("local", "a", "alice", 1)
            assert isinstance(events[-1], Finished)
        assert route.reason == "loaded here"
        assert d.stable.opened == ["a"]


async def test_an_unknown_model_is_refused_before_anything_is_loaded(autojump_clock: MockClock) -> None:
    async with desk() as d:
        with pytest.raises(ModelNotFound):
            await d.ask(endless(model="c"))
        assert d.stable.opened == []


async def test_what_cannot_be_taken_is_refused_by_name_and_counted(autojump_clock: MockClock) -> None:
    async with desk() as d:
        d.stable.failures = ["the file is truncated"]
        assert isinstance((await d.ask(endless(model="a")))[0][-1], Failed)
        with pytest.raises(ModelFailed, match="truncated"):
            await d.ask(endless(model="a"))
        await d.pool.load(A)
        async with d.dispatcher.open(endless(model="a")) as answer:
            await anext(aiter(answer))
            with pytest.raises(Overloaded):
                await d.ask(endless(model="b"))
        await d.pool.drain()
        with pytest.raises(Draining):
            await d.ask(endless(model="a"))
        assert d.sample('meshnode_requests_total{model="a",outcome="model_failed"}') == 2
        assert d.sample('meshnode_requests_total{model="b",outcome="overloaded"}') == 1
        assert d.sample('meshnode_requests_total{model="a",outcome="draining"}') == 1


async def test_the_deadline_holds_while_loading_queued_and_speaking(autojump_clock: MockClock) -> None:
    async with desk(stable=Stable(n_seq_max=1)) as d:
        for _ in range(2):  # loading at first, then speaking
            began = trio.current_time()
            events, _ = await d.ask(endless(model="a", deadline_s=0.7))
            assert trio.current_time() - began == pytest.approx(0.7)
            assert [event.code for event in ends(events) if isinstance(event, Failed)] == ["deadline_exceeded"]
            await d.pool.load(A)
        async with d.dispatcher.open(endless(model="a")) as first:
            await anext(aiter(first))
            events, _ = await d.ask(endless(model="a", deadline_s=0.7))
            assert isinstance(ends(events)[0], Failed)
        assert isinstance(ends((await d.ask(endless(model="a", tokens=2)))[0])[0], Finished)


async def test_leaving_an_answer_frees_the_engine_and_is_counted(autojump_clock: MockClock) -> None:
    async with desk(stable=Stable(n_seq_max=1)) as d:
        for _ in range(3):
            async with d.dispatcher.open(endless(model="a")) as answer:
                async for event in answer:
                    if isinstance(event, TextDelta):
                        break
                assert d.sample("meshnode_requests_processing") == 1
        assert d.sample("meshnode_requests_processing") == 0
        assert d.sample('meshnode_requests_total{model="a",outcome="cancelled"}') == 3
        assert d.sample("meshnode_completion_tokens_total") == 3


async def test_tokens_and_the_time_to_the_first_are_measured(autojump_clock: MockClock) -> None:
    async with desk(stable=Stable(load_s=4.0)) as d:
        await d.ask(endless("12345", model="a", tokens=7))
        assert d.sample("meshnode_prompt_tokens_total") >= 5
        assert d.sample("meshnode_completion_tokens_total") == 7
        assert d.sample("meshnode_time_to_first_token_seconds_count") == 1
        assert d.sample("meshnode_time_to_first_token_seconds_sum") == pytest.approx(4.01)
        assert d.sample('meshnode_requests_total{model="a",outcome="ok"}') == 1


async def test_a_worker_that_dies_before_the_first_token_is_retried_unnoticed(autojump_clock: MockClock) -> None:
    long = endless("x" * 3000, model="a", tokens=20, sampling=Sampling(temperature=1.0))
    async with desk() as d, trio.open_nursery() as nursery:
        nursery.start_soon(partial(d.stable.crash, "a", after_steps=2.5))
        events, route = await d.ask(long)
        started = [event for event in events if isinstance(event, Started)]
        at = events.index(started[0])
        assert isinstance(events[-1], Finished)
        assert len(started) == 1
        assert not [event for event in events[at:] if isinstance(event, Loading)]
        assert any(isinstance(event, Prefilling) for event in events)
        assert (route.attempts, d.pool.state(A.id).restarts) == (2, 1)
        seeded = msgspec.structs.replace(long, sampling=Sampling(temperature=1.0, seed=started[0].seed))
        assert text_of((await d.ask(seeded))[0]) == text_of(events)


async def test_a_second_death_is_told(autojump_clock: MockClock) -> None:
    async with desk() as d, trio.open_nursery() as nursery:

        async def crash_twice() -> None:
            for _ in range(2):
                await d.stable.crash("a", after_steps=2.5)
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(crash_twice)
        events, route = await d.ask(endless("x" * 3000, model="a"))
        assert [event.code for event in ends(events) if isinstance(event, Failed)] == ["worker_died"]
        assert route.attempts == 2


async def test_a_worker_that_dies_in_mid_answer_is_told_at_once(autojump_clock: MockClock) -> None:
    async with desk() as d, trio.open_nursery() as nursery:
        nursery.start_soon(partial(d.stable.crash, "a", after_steps=20))
        events, route = await d.ask(endless(model="a"))
        assert [event.code for event in ends(events) if isinstance(event, Failed)] == ["worker_died"]
        assert any(isinstance(event, TextDelta) for event in events)
        assert route.attempts == 1


async def test_a_model_that_cannot_come_back_is_one_failure(autojump_clock: MockClock) -> None:
    async with desk() as d, trio.open_nursery() as nursery:
        await d.pool.load(A)
        d.stable.failures = ["no memory"] * 3
        nursery.start_soon(partial(d.stable.crash, "a", after_steps=2.5))
        events, _ = await d.ask(endless("x" * 3000, model="a"))
        assert [event.code for event in ends(events) if isinstance(event, Failed)] == ["model_failed"]


async def test_the_log_has_figures_and_nobodys_text(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with desk() as d:
            await d.ask(endless(SECRET, model="a", tokens=20))
            assert isinstance((await d.ask(endless(SECRET * 1000, model="a")))[0][-1], Failed)
    ended = [entry for entry in logs if entry["event"] == "request_ended"]
    assert [entry["outcome"] for entry in ended] == ["ok", "context_length_exceeded"]
    assert ended[0]["completion_tokens"] == 20
    assert SECRET not in repr(logs)
    assert ModelId("a") == ended[0]["model"]


async def test_without_a_deadline_only_the_first_token_is_waited_for(autojump_clock: MockClock) -> None:
    async with desk(stable=Stable(load_s=2 * FIRST_TOKEN_S)) as d:
        events, _ = await d.ask(endless(model="a", tokens=2))
        assert [event.code for event in ends(events) if isinstance(event, Failed)] == ["deadline_exceeded"]
        assert trio.current_time() == pytest.approx(FIRST_TOKEN_S, abs=1)
        await d.pool.load(A)
        async with d.dispatcher.open(endless(model="a", tokens=2)) as answer:
            reader = aiter(answer)
            while not isinstance(await anext(reader), TextDelta):
                pass
            await trio.sleep(2 * FIRST_TOKEN_S)
            rest = [event async for event in reader]
        assert isinstance(rest[-1], Finished)


async def test_a_gated_answer_is_computed_as_far_as_it_is_paid(autojump_clock: MockClock) -> None:
    gate = Gate(prefill=1000, decode=9)
    async with desk() as d, d.dispatcher.open(endless(model="a", tokens=40), gate=gate) as answer:
        events = aiter(answer)
        with trio.move_on_after(100) as scope:
            while True:
                await anext(events)
        assert scope.cancelled_caught
        assert d.stable.alive["a"].gauge.running == 1
        gate.allow(decode=39)
        said = [event async for event in events if isinstance(event, TextDelta)]
        assert len(said) == 30


async def test_what_was_paid_before_a_worker_died_pays_for_the_next_attempt(autojump_clock: MockClock) -> None:
    request, gate = endless("x" * 3000, model="a", tokens=20), Gate(prefill=600, decode=0)
    async with desk() as d, trio.open_nursery() as nursery:

        async def pay_after_the_death() -> None:
            await d.stable.crash("a", after_steps=5)
            assert (await d.stable.until_alive("a")).gauge.kv_used == 600
            await trio.testing.wait_all_tasks_blocked()
            gate.allow(prefill=601)
            engine = await d.stable.until_alive("a")
            await trio.sleep(10)
            assert engine.gauge.kv_used == 601
            gate.allow(prefill=10_000, decode=19)

        nursery.start_soon(pay_after_the_death)
        events, route = await d.ask(request, gate)
        assert route.attempts == 2
        assert text_of(events) == text_of((await d.ask(request))[0])
