"""What is kept of what people asked and were answered, as its owner sees it: how much, and that it can be forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from meshnode.storage.vault import Shelf


class History(Protocol):
    """All that is kept, everybody's."""

    async def counts(self) -> Mapping[str, int]:
        """How many objects of each kind there are."""

    async def clear(self) -> Mapping[str, int]:
        """Stop what is under way and forget everything; gives how many objects of each kind there were."""


class NoHistory:
    """:class:`History` of a node that cannot keep anything."""

    async def counts(self) -> Mapping[str, int]:
        """None."""
        return {}

    async def clear(self) -> Mapping[str, int]:
        """None."""
        return {}


class KeptHistory:
    """:class:`History` on a shelf; ``stops`` end what still works on things that lie there."""

    def __init__(self, shelf: Shelf, *stops: Callable[[], Awaitable[None]]) -> None:
        self._shelf = shelf
        self._stops = stops

    async def counts(self) -> Mapping[str, int]:
        """See the protocol."""
        return await self._shelf.counts()

    async def clear(self) -> Mapping[str, int]:
        """See the protocol."""
        for stop in self._stops:
            await stop()
        return await self._shelf.clear()
