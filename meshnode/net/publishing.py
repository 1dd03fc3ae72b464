"""What a node tells of itself, kept alive: published at a bounded pace, renewed before it expires, tried again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import trio

from meshnode.domain import PeerId
from meshnode.net.directory import Key, Outcome, Timing, place, stem_of
from meshnode.net.provider_records import Window

WORKERS = 3
"""Names that are published at the same time."""

Write = Callable[[Key], Awaitable[Outcome]]


class _Name:
    """One name on its way: ``due`` to be published, ``verified`` when it last was, and under which key."""

    def __init__(self, stem: bytes, due: float) -> None:
        self.stem = stem
        self.due = due
        self.failures = 0
        self.verified = float("-inf")
        self.key: Key | None = None
        self.busy = False


class Publisher:
    """The names that this node provides. ``write`` puts us under a key and makes sure that others find us there."""

    def __init__(self, network: str, me: PeerId, timing: Timing, write: Write) -> None:
        self._network = network
        self._me = me
        self._timing = timing
        self._write = write
        self._names: dict[str, _Name] = {}
        self._window = Window(timing.keys, timing.window_s)
        self._turn = trio.Lock()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def published(self) -> frozenset[str]:
        """Names that were verified and are not expired since."""
        oldest = trio.current_time() - self._timing.expire_s
        return frozenset(name for name, state in self._names.items() if state.verified > oldest)

    def replace(self, names: Collection[str]) -> None:
        """Publish ``names`` and no others; those that are published already stay as they are."""
        now = trio.current_time()
        wanted = dict.fromkeys(names)
        fresh = {name: _Name(stem_of(self._network, name), now) for name in wanted if name not in self._names}
        self._names = {name: self._names.get(name) or fresh[name] for name in wanted}
        self._changed.unpark_all()

    def provides(self, key: Key) -> bool:
        """Whether we were placed under ``key``, and still are to be found there."""
        return any(state.key == key for state in self._names.values())

    def hurry(self, *, everything: bool = False) -> None:
        """Try now what could not be published yet; with ``everything`` publish all again."""
        now = trio.current_time()
        for state in self._names.values():
            if everything or state.failures:
                state.due = min(state.due, now)
        self._changed.unpark_all()

    async def turn(self) -> None:
        """Wait until one more key may be published."""
        async with self._turn:
            await trio.sleep(self._window.wait(trio.current_time()))
            self._window.note(trio.current_time())

    async def run(self) -> None:
        """Publish for ever what is due."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            idle = [state for state in self._names.values() if not state.busy]
            first = min(idle, key=lambda state: state.due, default=None)
            due = first.due if first is not None else float("inf")
            if first is None or due > trio.current_time():
                with trio.move_on_at(due):
                    await self._changed.park()
                continue
            first.busy = True
            try:
                await self._publish(first)
            finally:
                first.busy = False
                self._changed.unpark_all()

    async def _publish(self, state: _Name) -> None:
        key = await place(state.stem, self._me, self._write)
        now = trio.current_time()
        if key is None:
            wait = min(self._timing.retry_s * 2**state.failures, self._timing.retry_most_s)
            state.failures = min(state.failures + 1, 30)
            state.due = now + wait
        else:
            state.key, state.verified, state.failures = key, now, 0
            state.due = now + self._timing.renew_s
