"""Hashes of big files, computed one after another beside everything else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from meshnode.domain import ModelCard, ModelId


class Hasher:
    """A queue of models whose hash nobody knows yet. Another task calls :meth:`run`."""

    def __init__(self) -> None:
        self._waiting: dict[ModelId, None] = {}
        self._something = trio.Event()
        self._nothing = trio.Event()
        self._nothing.set()

    def later(self, cards: Iterable[ModelCard]) -> None:
        """Queue those of ``cards`` that have no hash."""
        for card in cards:
            if not card.sha256:
                self._waiting[card.id] = None
        if self._waiting:
            self._something.set()
            if self._nothing.is_set():
                self._nothing = trio.Event()

    async def settled(self) -> None:
        """Wait until nothing is queued."""
        await self._nothing.wait()

    async def run(self, hash_model: Callable[[ModelId], Awaitable[None]]) -> None:
        """Call ``hash_model`` for each queued model, in order, until cancelled."""
        while True:
            while self._waiting:
                model = next(iter(self._waiting))
                await hash_model(model)
                self._waiting.pop(model, None)
            self._nothing.set()
            self._something = trio.Event()
            await self._something.wait()
