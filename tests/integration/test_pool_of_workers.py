"""Pool, dispatcher and real worker processes together: what callers see when workers are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from meshnode.domain import ModelCard
from meshnode.engine.pipe import Load
from meshnode.engine.pool import Pool, open_pool
from meshnode.engine.process import worker_spawner
from meshnode.engine.runner import Engine, WorkerEngine, open_worker
from meshnode.events import Event, Failed, Finished, TextDelta
from meshnode.mesh.local import LocalDispatcher
from meshnode.observe import Metrics
from tests.kit.engines import constant_entropy
from tests.kit.requests import card, endless

CARD = card("a")


class Shelf:
    """One model."""

    def resolve(self, name: str | None) -> ModelCard:
        """Whatever the name."""
        return CARD


class Place:
    """A dispatcher over worker processes, and where to find the one that runs."""

    def __init__(self, pool: Pool, dispatcher: LocalDispatcher) -> None:
        self.pool = pool
        self.dispatcher = dispatcher
        self.workers: list[WorkerEngine] = []

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.workers[-1].pid, signal.SIGKILL)

    async def ask(self, tokens: int) -> Event:
        """The end of one answer."""
        async with self.dispatcher.open(endless(model="a", tokens=tokens)) as answer:
            return [event async for event in answer][-1]


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Nothing loaded."""
    load, spawn = Load(path="", n_ctx=4096, n_seq_max=4), worker_spawner(os.environ, fake=True)

    @asynccontextmanager
    async def watched(_: ModelCard, progress: Callable[[float], None]) -> AsyncIterator[Engine]:
        async with open_worker(load, spawn=spawn, progress=progress) as engine:
            here.workers.append(engine)
            yield engine

    metrics = Metrics()
    async with open_pool(watched, metrics=metrics, entropy=constant_entropy) as pool:
        here = Place(pool, LocalDispatcher(Shelf(), pool, metrics, node="alice"))
        yield here


async def test_after_a_kill_in_mid_stream_the_next_request_is_answered_by_a_new_worker() -> None:
    with trio.fail_after(60):
        async with place() as here:
            for _ in range(2):
                async with here.dispatcher.open(endless(model="a")) as answer:
                    rest = []
                    async for event in answer:
                        rest.append(event)
                        if isinstance(event, TextDelta) and len(rest) == 5:
                            here.kill()
                assert isinstance(rest[-1], Failed)
                assert rest[-1].code == "worker_died"
                assert isinstance(await here.ask(5), Finished)
            assert here.pool.state(CARD.id).restarts == 2


async def test_a_kill_while_nobody_asks_is_noticed_by_nobody() -> None:
    with trio.fail_after(60):
        async with place() as here:
            assert isinstance(await here.ask(1), Finished)
            here.kill()
            assert isinstance(await here.ask(1), Finished)


async def test_a_hundred_callers_that_leave_at_odd_moments_leave_an_idle_worker() -> None:
    async def leaver(number: int) -> None:
        with trio.move_on_after(0.001 * (number % 50)):
            await here.ask(1000)

    with trio.fail_after(120):
        async with place() as here:
            await here.pool.load(CARD)
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(leaver, number)
            assert isinstance(await here.ask(1), Finished)
            gauge = here.pool.state(CARD.id).gauge
    assert (gauge.running, gauge.waiting, gauge.kv_used) == (0, 0, 0)
