"""One stream of ``/meshnode/infer/1`` under way: what is to be said is queued, and written in as few frames as can be.

Both ends use it. One task reads (:meth:`Talk.hear`), one writes (:meth:`Talk.write`). Events of one engine step come
from many tasks that wake together; the writer lets them all speak before it writes, so that a step is one frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from meshnode.domain import PeerId
from meshnode.errors import InternalFault, ProtocolViolation, StreamReset
from meshnode.events import Event
from meshnode.mesh.asker import PeerHung
from meshnode.net.transport import Stream
from meshnode.wire import messages as m
from meshnode.wire.session import Role, Session

BEAT_S: Final = 5.0
"""Silence after which an end that has requests open shows that it lives."""
HANG_S: Final = 10.0
"""Silence after which an end that owes an answer counts as hung."""
ACCEPT_S: Final = 5.0
"""Silence after an ask: a provider answers it from memory, so that a client of ours need not be told of a hang."""
STALL_S: Final = 20.0
"""How long a write may wait for a peer that does not read."""
_TOGETHER: Final = 512
"""Events in one frame at most."""
_ONE_WRITE: Final = 256 << 10
_MOST_WAITING: Final = 16 << 20
"""Bytes that may wait to be written: credit keeps it far below; past it something is wrong."""


class Tasks:
    """The tasks of one session in a nursery: the first to fail ends them all, and its exception is kept, not raised.

    So no group of exceptions comes out of the nursery, whatever else is being cancelled at that moment.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.failure: Exception | None = None
        """Why the session ended."""

    def start(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run ``task`` beside the others."""
        self._nursery.start_soon(self._run, task, args)

    async def _run(self, task: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception as error:
            self.failure = self.failure or error
            self._nursery.cancel_scope.cancel()


class Talk:
    """A session over a stream. ``session`` judges both directions."""

    def __init__(self, stream: Stream, role: Role, session: Session) -> None:
        self.peer: PeerId = stream.peer
        self.role = role
        self._stream = stream
        self._session = session
        self._waiting: deque[m.Message | tuple[int, Event]] = deque()
        self._frames: deque[bytes] = deque()
        self._heard: deque[m.Message] = deque()
        self._backlog = 0
        self._wake = trio.Event()
        self._drained = trio.Event()
        """Set, and replaced, after each write."""
        self._writing = False

    def say(self, message: m.Message) -> None:
        """Queue one message; it is on its way when the writing task runs next."""
        self._waiting.append(message)
        self._wake.set()

    def tell(self, number: int, event: Event) -> None:
        """Queue an event of a request, to share a frame with others."""
        self._waiting.append((number, event))
        self._wake.set()

    async def hear(self) -> m.Message:
        """What the peer says next. Raises ProtocolViolation, StreamReset (also where it just ends), Unreachable."""
        while not self._heard:
            data = await self._stream.read()
            if not data:
                raise StreamReset(f"{self.peer} ended the session.")
            self._heard += self._session.receive(data)
        return self._heard.popleft()

    async def write(self) -> None:
        """Write what is queued, for ever; a Beat where nothing was said for a while and requests are open.

        Raises PeerHung when the peer does not read, and InternalFault when we would say what is out of order.
        """
        while True:
            with trio.move_on_after(BEAT_S):
                await self._wake.wait()
            if not self._wake.is_set():
                if self._session.open and self._session.requests:
                    self.say(m.Beat())
                else:
                    continue
            await trio.lowlevel.checkpoint()  # the other tasks of this engine step speak now
            self._wake = trio.Event()
            self._frame()
            while self._frames:
                await self._write_some()

    async def flush(self) -> None:
        """Write what is queued now, from a task that ends the session; nothing where a write was cut in the middle."""
        if self._writing:
            return
        self._frame()
        while self._frames:
            await self._write_some()

    async def room(self) -> None:
        """Wait until little is queued: for bodies, which are large."""
        while self._backlog > _ONE_WRITE or self._waiting:
            await self._drained.wait()

    async def _write_some(self) -> None:
        pieces, size = [], 0
        while self._frames and size < _ONE_WRITE:
            pieces.append(self._frames.popleft())
            size += len(pieces[-1])
        self._writing = True
        with trio.move_on_after(STALL_S) as patience:
            await self._stream.write(b"".join(pieces))
        if patience.cancelled_caught:
            raise PeerHung(f"did not read for {STALL_S:g} s.")
        self._writing = False
        self._backlog -= size
        self._drained.set()
        self._drained = trio.Event()

    def _frame(self) -> None:
        """Turn what is queued into frames, consecutive events together."""
        together: list[tuple[int, Event]] = []
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, tuple):
                together.append(item)
            if together and (not isinstance(item, tuple) or len(together) >= _TOGETHER or not self._waiting):
                self._pack_events(tuple(together))
                together = []
            if not isinstance(item, tuple):
                self._pack(item)

    def _pack_events(self, items: tuple[tuple[int, Event], ...]) -> None:
        """One frame, or more where they do not fit into one."""
        if len(items) > 1 and sum(map(_weight, items)) > m.FRAME // 2:
            middle = len(items) // 2
            self._pack_events(items[:middle])
            self._pack_events(items[middle:])
        else:
            self._pack(m.Events(items))

    def _pack(self, message: m.Message) -> None:
        try:
            frame = self._session.pack(message)
        except ProtocolViolation as error:  # ours, not the peer's
            raise InternalFault(f"This node would have broken the protocol: {error.message}") from error
        self._frames.append(frame)
        self._backlog += len(frame)
        if self._backlog > _MOST_WAITING:
            raise PeerHung(f"{self._backlog} bytes wait for a peer that does not read.")


def _weight(item: tuple[int, Event]) -> int:
    """Bytes an event may take, roughly and never too few."""
    text = getattr(item[1], "text", "") or getattr(item[1], "message", "") or getattr(item[1], "arguments", "")
    vector = getattr(item[1], "vector", b"")
    return 256 + 4 * len(text) + len(vector) + 9 * len(getattr(item[1], "token_ids", ()))
