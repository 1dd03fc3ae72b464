"""An engine without a process: the worker's own loop over a backend, stepped by a trio task on trio's clock.

For simulation and tests: no threads, no files; a step takes ``step_s`` of whatever clock trio runs on, so that a
whole mesh of these runs on a virtual one. Schedule, templates, sampling and stop strings are the worker's.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

import trio

from meshnode.domain import GenerationRequest
from meshnode.engine.backend import Backend
from meshnode.engine.delivery import WINDOW, Multiplexer
from meshnode.engine.gate import Gate
from meshnode.engine.loop import Loop
from meshnode.engine.pipe import Cancel, EngineInfo, Gauge, Grant, Submit
from meshnode.engine.runner import Death, worker_died
from meshnode.events import Event, Failed

_LOOK_S = 0.5


@asynccontextmanager
async def open_inline(
    backend: Backend,
    *,
    entropy: Callable[[], int],
    now: Callable[[], datetime],
    step_s: float = 0.01,
    step_tokens: int = 512,
    window: int = WINDOW,
) -> AsyncIterator[InlineEngine]:
    """An engine over ``backend`` for the length of the block; the backend is closed with it.

    ``entropy`` gives 64 bits for requests without a seed, ``now`` the wall clock that templates may show.
    """
    loop = Loop(backend, clock=trio.current_time, entropy=entropy, now=now, step_tokens=step_tokens)
    engine = InlineEngine(backend, loop, step_s, window)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            yield engine
            nursery.cancel_scope.cancel()
    finally:
        engine.crash("was stopped")
        backend.close()


class InlineEngine:
    """An :class:`meshnode.engine.runner.Engine` in this very process. Made by :func:`open_inline`."""

    def __init__(self, backend: Backend, loop: Loop, step_s: float, window: int) -> None:
        self._info = backend.info
        self._loop = loop
        self._step_s = step_s
        self._multiplexer = Multiplexer(self._send, window=window)
        self._work = trio.Event()
        self._dead = trio.Event()
        self._death = Death("")

    @property
    def info(self) -> EngineInfo:
        """Shape of the backend."""
        return self._info

    @property
    def gauge(self) -> Gauge:
        """The scheduler's figures now."""
        return self._loop.gauge()

    def generate(
        self, request: GenerationRequest, gate: Gate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request."""
        return self._multiplexer.generate(request, gate)

    def fail_all(self, failed: Failed) -> None:
        """Close every answer under way with this event."""
        self._multiplexer.fail_all(failed)

    @property
    def dead(self) -> bool:
        """Whether it has crashed or was stopped."""
        return self._dead.is_set()

    async def died(self) -> Death:
        """Wait until :meth:`crash`."""
        await self._dead.wait()
        return self._death

    def crash(self, reason: str) -> None:
        """Die as a worker process would: every answer, and every later one, fails with ``worker_died``."""
        if not self._dead.is_set():
            self._death = Death(reason)
            self._dead.set()
            self._work.set()
            self._multiplexer.close(worker_died(reason))

    async def run(self) -> None:
        """Step while there is work, and sleep ``step_s`` for each step; returns when the engine has crashed."""
        while not self._dead.is_set():
            step = self._loop.step()
            if step is None:
                await self._wait()
                continue
            await trio.sleep(self._step_s)
            self._multiplexer.commit(step)

    async def _wait(self) -> None:
        """Until there is a message; looked at now and then while sequences wait for each other's slots."""
        self._work = trio.Event()
        with trio.move_on_after(_LOOK_S if self._multiplexer.busy else math.inf):
            await self._work.wait()

    def _send(self, message: Submit | Grant | Cancel) -> None:
        self._loop.handle(message)
        self._work.set()
