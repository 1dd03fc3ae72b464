"""Run a task beside a block: for its progress to be iterated over, or only for as long as the block lasts.

Errors come out as themselves, never as a nursery's group: callers catch this project's errors by class.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import trio

from meshnode.errors import MeshnodeError

Item = TypeVar("Item")


@contextlib.asynccontextmanager
async def alongside(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run ``task`` for the length of the block; leaving the block cancels it."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        try:
            yield
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@contextlib.asynccontextmanager
async def watched(
    task: Callable[[Callable[[Item], Awaitable[None]]], Awaitable[None]],
) -> AsyncIterator[AsyncIterator[Item]]:
    """Run ``task``, which reports items, and iterate over what it reports; leaving the block cancels it.

    The iteration ends when the task does, with the task's :class:`MeshnodeError` if it raised one.
    """
    send, receive = trio.open_memory_channel[Item](0)
    items = _Items(receive)

    async def run() -> None:
        async with send:
            try:
                await task(send.send)
                items.complete = True
            except MeshnodeError as error:
                items.failure = error

    # The task is cancelled before the channel closes: a report may then be cut short, never fail.
    async with receive, alongside(run):
        yield items


class _Items(Generic[Item]):
    def __init__(self, receive: trio.MemoryReceiveChannel[Item]) -> None:
        self._receive = receive
        self.failure: MeshnodeError | None = None
        self.complete = False

    def __aiter__(self) -> _Items[Item]:
        return self

    async def __anext__(self) -> Item:
        with contextlib.suppress(trio.EndOfChannel):
            return await self._receive.receive()
        if self.failure is not None:
            raise self.failure
        if not self.complete:
            # A defect ended the task: the block is about to be cancelled for it, and nothing here came to an end.
            await trio.sleep_forever()
        raise StopAsyncIteration
