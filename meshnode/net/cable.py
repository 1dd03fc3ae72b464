"""Connections and streams inside one process: bytes that take their time, and ends that fail as real ones do."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio

from meshnode.domain import PeerId
from meshnode.errors import StreamReset, Unreachable
from meshnode.net.transport import CHUNK

WINDOW = 256 * 1024
"""Bytes a stream holds in each direction before its writer waits."""


class Cable:
    """One connection between two hosts."""

    def __init__(self, a: PeerId, b: PeerId, address: str, delay: Callable[[], float]) -> None:
        self.ends = {a: b, b: a}
        self.dialler = a
        self.address = address
        self.silent = False
        self.lost = False
        self.times_silent = 0
        self._delay = delay
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def delay_s(self) -> float:
        """Seconds a byte takes."""
        return self._delay()

    def set_silent(self, silent: bool) -> None:
        """Let nothing pass any more, or everything again."""
        self.times_silent += silent and not self.silent
        self.silent = silent
        self.stir()

    def lose(self) -> None:
        """Both ends notice that the connection is gone."""
        self.lost = True
        self.stir()

    def stir(self) -> None:
        """Something changed: let whoever waits look again."""
        self._lot.unpark_all()

    async def wait(self, until: float) -> None:
        """Until something changes, or it is ``until``."""
        with trio.move_on_at(until):
            await self._lot.park()

    async def cross(self, times: int) -> None:
        """Travel so many ways; a silent cable holds the traveller. Raises Unreachable when it is lost."""
        await trio.sleep(self.delay_s * times)
        while self.silent and not self.lost:
            await self.wait(math.inf)
        if self.lost:
            raise Unreachable("The connection was lost.")


class Pipe:
    """One direction of a stream: bytes with the time they are due, at most WINDOW of them."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._due: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._end: float | None = None
        self._broken = math.inf  # when the end that did not give up learns that the other did

    def put(self, data: memoryview) -> memoryview:
        """Take what fits; the rest is given back."""
        taken = data[: WINDOW - self._size]
        if taken:
            self._size += len(taken)
            self._due.append((trio.current_time() + self._cable.delay_s, taken))
            self._cable.stir()
        return data[len(taken) :]

    def end(self) -> None:
        """No more comes after what was put."""
        if self._end is None:
            self._end = trio.current_time() + self._cable.delay_s
            self._cable.stir()

    def take(self, limit: int) -> bytes | None:
        """Bytes that have arrived, ``b""`` at the end, None when there is nothing to say yet."""
        now = trio.current_time()
        if self._cable.silent:
            return None
        if self._due and self._due[0][0] <= now:
            due, data = self._due.popleft()
            if len(data) > limit:
                self._due.appendleft((due, data[limit:]))
            piece = bytes(data[:limit])
            self._size -= len(piece)
            self._cable.stir()
            return piece
        if not self._due and self._end is not None and self._end <= now:
            return b""
        return None

    def break_off(self) -> None:
        """The writer gave up; the reader learns of it as fast as a byte travels."""
        self._broken = min(self._broken, trio.current_time() + self._cable.delay_s)
        self._cable.stir()

    @property
    def broken(self) -> bool:
        """Whether the reader knows that the writer gave up."""
        return self._broken <= trio.current_time() and not self._cable.silent

    @property
    def ended(self) -> bool:
        """Whether the reader knows that no more comes."""
        return self._end is not None and self._end <= trio.current_time() and not self._cable.silent

    @property
    def next(self) -> float:
        """When something could come of waiting."""
        if self._cable.silent:
            return math.inf
        moments = [self._broken, self._due[0][0] if self._due else math.inf, self._end or math.inf]
        now = trio.current_time()
        return min((moment for moment in moments if moment > now), default=math.inf)


class MemoryStream:
    """A Stream within the process."""

    def __init__(self, cable: Cable, peer: PeerId, protocol: str, inbound: Pipe, outbound: Pipe) -> None:
        self._cable = cable
        self._peer = peer
        self._protocol = protocol
        self._in = inbound
        self._out = outbound
        self._over = False
        self._ended = False

    @property
    def peer(self) -> PeerId:
        """Who is at the other end."""
        return self._peer

    @property
    def protocol(self) -> str:
        """What was agreed when the stream was opened."""
        return self._protocol

    async def read(self, limit: int = CHUNK) -> bytes:
        """Between 1 and ``limit`` bytes, or ``b""`` at the peer's end."""
        await trio.lowlevel.checkpoint()
        while True:
            self._raise_if_over()
            data = self._in.take(limit)
            if data is not None:
                return data
            if self._in.broken:
                raise StreamReset(f"{self._peer} gave up the stream.")
            await self._cable.wait(self._in.next)

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting while the peer does not read."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(bytes(data))
        while True:
            self._raise_if_over()
            if self._ended:
                raise trio.ClosedResourceError
            if self._in.broken:
                raise StreamReset(f"{self._peer} gave up the stream.")
            rest = self._out.put(rest)
            if not rest:
                return
            await self._cable.wait(self._in.next)

    async def close_write(self) -> None:
        """End our side."""
        if not (self._over or self._ended):
            self._ended = True
            self._out.end()

    async def close(self) -> None:
        """End both sides."""
        await self.close_write()
        if not self._over:
            self._over = True
            if not self._in.ended:
                self._out.break_off()
            self._cable.stir()

    async def reset(self) -> None:
        """Give the stream up."""
        if not self._over:
            self._over = True
            self._out.break_off()

    def _raise_if_over(self) -> None:
        if self._over:
            raise trio.ClosedResourceError
        if self._cable.lost:
            raise Unreachable(f"The connection to {self._peer} was lost.")
