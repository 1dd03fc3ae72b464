"""A stable of inline engines for the pool: loads take virtual time, fail on demand, and engines can be killed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import trio

from meshnode.domain import ModelCard
from meshnode.engine.fake import FakeBackend
from meshnode.engine.inline import InlineEngine, open_inline
from meshnode.errors import ModelFailed


def constant_entropy() -> int:
    """Always the same 64 bits."""
    return 2**63


class Stable:
    """Opens engines for a pool. ``failures`` are the reasons of the next loads to fail ('' is one that works).

    Each request without a seed draws another one.
    """

    def __init__(self, *, load_s: float = 1.0, step_s: float = 0.01, n_seq_max: int = 4) -> None:
        self.load_s = load_s
        self.step_s = step_s
        self.n_seq_max = n_seq_max
        self.failures: list[str] = []
        self.opened: list[str] = []
        """Names of the models whose loads were begun, in order."""
        self.alive: dict[str, InlineEngine] = {}
        """What is in memory now."""
        self._entropy = itertools.count(1).__next__
        self._born = trio.Event()

    async def until_alive(self, name: str) -> InlineEngine:
        """The engine of a model, once it is loaded."""
        while name not in self.alive:
            await self._born.wait()
        return self.alive[name]

    async def crash(self, name: str, *, after_steps: float = 0) -> None:
        """Let the worker of a model die, once it is loaded and has made so many steps."""
        engine = await self.until_alive(name)
        await trio.sleep(after_steps * self.step_s)
        engine.crash("was killed")

    @asynccontextmanager
    async def open(self, card: ModelCard, progress: Callable[[float], None]) -> AsyncIterator[InlineEngine]:
        """A :data:`meshnode.engine.slot.OpenEngine`."""
        self.opened.append(card.id)
        for quarter in range(4):
            progress(quarter / 4)
            await trio.sleep(self.load_s / 4)
        reason = self.failures.pop(0) if self.failures else ""
        if reason:
            raise ModelFailed(reason)
        backend = FakeBackend(n_ctx=8192, n_seq_max=self.n_seq_max)
        async with open_inline(backend, entropy=self._entropy, now=_now, step_s=self.step_s) as engine:
            self.alive[card.id] = engine
            self._born.set()
            self._born = trio.Event()
            try:
                yield engine
            finally:
                await trio.lowlevel.cancel_shielded_checkpoint()
                del self.alive[card.id]


def _now() -> datetime:
    return datetime(2025, 1, 1, tzinfo=UTC)
