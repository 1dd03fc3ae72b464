"""What py-libp2p 0.8.1 needs mended before strangers may talk to it.

libp2p is pinned to 0.8.1. Each guard is numbered; ``tests/unit/net/test_guards.py`` has one test per number that
shows the guard at work, and runs stock libp2p beside it, so that a new release tells which are still needed.

==  ==========================================================  ==============================================
 n  stock libp2p                                                here
==  ==========================================================  ==============================================
 1  an exception that leaves a stream handler ends the process  contained, the stream is reset (host)
 2  a cancelled write leaves half a frame on the wire           frames are written whole, a stalled peer is cut
 3  a reset or a lost connection reads as a clean end           only a FIN is an end
 4  a writer gives up after 5 s without credit, polling         waits for credit, cancellable, woken by it
 5  the receive window is not enforced, nor its growth small    1 MiB window, twice that ends the connection
 6  a stream past the 256th waits for ever                      deadline, and fewer are allowed (host)
 7  a cancelled task tells the peer nothing                     reset in a shielded finally (host)
 8  every successful dial sleeps 250 ms                         does not
 9  a silent peer stays connected                               asked after 8 s, cut after 13 s of silence
10  after the host ended its port still accepts                 closed in order, at once (host)
11  one failed dial blocks the peer for 60 s                    does not (host)
12  dials known peers and logs of its own accord, unbounded     auto-connector off (host), log rate-limited
13  cancelling a read can lose the bytes it took                taken bytes are always handed over
14  an answer to a frame waits behind a blocked write, so       answers are queued behind it, nobody waits:
    two busy peers can stand still for good                     reading goes on
15  a message that comes in more than 100 pieces is an error    read to its end
16  a local reset leaves the task that reads asleep for ever    wakes it
17  what is unread 60 s after both ends closed is dropped,      the same, but read as a reset
    and reads as a clean end
18  the remote end of an IPv6 connection is unknown             known
19  two programs can listen on one port, taking turns           refused (host)
20  a connection that came in holds its task and its place      gives both back when it is over (swarm)
    until the host ends: after as many as there are places,
    all of them long gone, nobody is let in any more
21  a connection whose tasks are cancelled keeps its socket     closes it
==  ==========================================================  ==============================================

Not needed here: libp2p's own health monitor (9 does it on the connection itself, without opening a stream).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import trio
from libp2p.io import msgio
from libp2p.io import trio as tcp_stream
from libp2p.io.exceptions import ConnectionClosedError, IncompleteReadError, IOException
from libp2p.network import swarm
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.exceptions import RawConnError
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux

from meshnode.net.quiet import quieten

log = structlog.get_logger()

MAX_WINDOW = 1 << 20
WRITE_STALL_S = 20.0
_MAX_CONTROL = 128 * 1024  # bytes of 12-byte answers waiting behind one write: only a flood gets there
_CLOSE_S = 1.0
_DATA = yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE
_LOST = (RawConnError, IOException, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def install() -> None:
    """Put the guards in place of what they mend. May be called again; there is no way back in this process."""
    yamux.YamuxStream = GuardedStream  # type: ignore[misc]  # the name both sides of a connection make streams by
    muxer_multistream.Yamux = GuardedYamux  # type: ignore[attr-defined]  # the muxer option is ignored for yamux
    yamux.MAX_WINDOW_SIZE = MAX_WINDOW
    yamux.bytearray = BoundedBuffer  # type: ignore[attr-defined]  # shadows the built-in in that module only
    yamux.read_exactly = read_exactly  # type: ignore[attr-defined]  # imported there by name
    msgio.read_exactly = read_exactly  # type: ignore[attr-defined]  # likewise
    swarm._HAPPY_EYEBALLS_DELAY = 0.0
    tcp_stream.TrioTCPStream.get_remote_address = _remote_address  # type: ignore[method-assign]
    # it logs through the root logger, which installs a handler there that prints
    swarm_connection.logging = logging.getLogger("libp2p.network.connection")  # type: ignore[assignment, attr-defined]
    quieten(logging.getLogger("libp2p"))


class _Reader(Protocol):
    async def read(self, n: int | None = None) -> bytes: ...


async def read_exactly(reader: _Reader, n: int, retry_count: int = 0) -> bytes:
    """``n`` bytes, in however many pieces they come (guard 15). Raises IncompleteReadError when they end early."""
    buffer = bytearray()
    while len(buffer) < n:
        piece = await reader.read(n - len(buffer))
        if not piece:
            raise IncompleteReadError("connection closed", expected_bytes=n, received_bytes=len(buffer))
        buffer += piece
    return bytes(buffer)


class BoundedBuffer(bytearray):
    """A receive buffer that a peer cannot fill past its window (guard 5).

    Twice the window, because what is granted again is counted a little late. The error is the one that makes the
    muxer close the connection.
    """

    def extend(self, data: Any) -> None:
        """Append ``data``; raises trio.TooSlowError when the peer sent more than it was allowed."""
        if len(self) + len(data) > 2 * MAX_WINDOW:
            raise trio.TooSlowError
        super().extend(data)


def _waking(name: str) -> property:
    """An attribute that wakes the stream's writers when it is set."""

    def get(stream: GuardedStream) -> Any:
        return stream.__dict__[name]

    def put(stream: GuardedStream, value: Any) -> None:
        stream.__dict__[name] = value
        stream.writers.unpark_all()

    return property(get, put)


class GuardedStream(yamux.YamuxStream):
    """A stream that waits for credit, tells an end from a reset, and loses nothing when its reader is cancelled."""

    send_window = _waking("send_window")
    closed = _waking("closed")
    send_closed = _waking("send_closed")

    def __init__(self, stream_id: int, conn: yamux.Yamux, is_initiator: bool) -> None:
        self.writers = trio.lowlevel.ParkingLot()
        self.given_up = False
        """Whether bytes may be missing: reset here, or dropped unread."""
        super().__init__(stream_id, conn, is_initiator)

    @property
    def lost(self) -> bool:
        """Whether the connection below is gone."""
        return self.conn.event_shutting_down.is_set()

    async def read(self, n: int | None = -1) -> bytes:
        """At most ``n`` bytes (all there are when not positive), as soon as there are any (guards 3, 13)."""
        conn, name = self.conn, self.stream_id
        await trio.lowlevel.checkpoint()
        while True:
            buffer = conn.stream_buffers.get(name)
            if buffer:
                data = bytes(buffer[:n] if n is not None and n > 0 else buffer)
                del buffer[: len(data)]
                if self.closed:
                    conn._finalize_stream_locked(self, fully_closed=True)
                with trio.CancelScope(shield=True):  # the bytes are taken: nothing may stop them now
                    await self._auto_tune_and_send_window_update(bytes_read=len(data))
                return data
            self._raise_if_over()
            event = conn.stream_events[name]
            await event.wait()
            if conn.stream_events.get(name) is event:
                conn.stream_events[name] = trio.Event()

    def _raise_if_over(self) -> None:
        if self.lost or self.given_up:
            raise MuxedStreamReset("the connection was lost" if self.lost else "given up")
        if self.recv_closed:
            raise MuxedStreamEOF("the peer has ended its side")
        if self.reset_received or self.closed or self.stream_id not in self.conn.stream_events:
            raise MuxedStreamReset("reset by the peer")

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting for credit as long as it takes (guard 4)."""
        rest = memoryview(data)
        while rest:
            await self._credit()
            piece = rest[: min(self.send_window, _DATA)]
            self.send_window -= len(piece)
            header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, len(piece))
            try:
                await self.conn._write_frame(header + piece)
            except _LOST as error:
                raise MuxedStreamReset("the connection was lost") from error
            rest = rest[len(piece) :]

    async def _credit(self) -> None:
        await trio.lowlevel.checkpoint()
        while True:
            if self.lost or self.closed or self.reset_received:
                raise MuxedStreamReset("the stream is over")
            if self.send_closed:
                raise MuxedStreamClosed("closed for writing")
            if self.send_window > 0:
                return
            await self.writers.park()

    async def reset(self) -> None:
        """Give the stream up, waking whoever reads it (guard 16) and freeing what is unread."""
        self.given_up = True
        event = self.conn.stream_events.get(self.stream_id)
        buffer = self.conn.stream_buffers.get(self.stream_id)
        if buffer:
            buffer.clear()
        try:
            await super().reset()
        finally:
            if event is not None:
                event.set()


class GuardedYamux(yamux.Yamux):
    """A connection whose frames are whole, whose reading never waits for its writing, and whose death is noticed."""

    keepalive_s = 8.0
    silence_s = 5.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._control = bytearray()
        self._heard = trio.current_time()
        self.secured_conn = _Heard(self.secured_conn, self._hear)  # type: ignore[assignment]  # all that is used of it

    def _hear(self) -> None:
        self._heard = trio.current_time()

    async def start(self) -> None:
        """Carry streams until the connection is over; when that is because it was cancelled, close it (guard 21)."""
        try:
            await super().start()
        finally:
            if not self.event_closed.is_set():
                with trio.CancelScope(deadline=trio.current_time() + _CLOSE_S, shield=True):
                    await self.secured_conn.close()
                    await self._cleanup_on_error()

    async def _write_frame(self, data: bytes) -> None:
        """Write one frame whole (guard 2). A frame without payload waits for nobody (guard 14)."""
        if self.event_shutting_down.is_set():
            raise ConnectionClosedError("the connection was lost")
        if len(data) > yamux.HEADER_SIZE:
            await self._write_lock.acquire()
        elif self._write_lock.locked():
            await self._enqueue(data)
            return
        else:
            self._write_lock.acquire_nowait()
        with trio.CancelScope(deadline=trio.current_time() + WRITE_STALL_S, shield=True) as stall:
            try:
                await self._send(data)
            finally:
                self._write_lock.release()
        if stall.cancelled_caught:
            await self._cut("does not drain the connection")

    async def _send(self, data: bytes) -> None:
        """Send a frame and what was queued meanwhile; the lock is held."""
        while data:
            await self.secured_conn.write(data)
            data = bytes(self._control)
            self._control.clear()

    async def _enqueue(self, data: bytes) -> None:
        if len(self._control) > _MAX_CONTROL:
            await self._cut("asks without reading the answers")
        self._control += data

    async def _cut(self, reason: str) -> None:
        log.warning("peer_cut", peer=str(self.peer_id), reason=reason)
        with trio.CancelScope(shield=True):
            await self._cleanup_on_error()
        raise ConnectionClosedError(f"the peer {reason}")

    async def _measure_rtt_loop(self) -> None:
        """Measure the round trip soon, then ask after silence, and drop the connection when it lasts (guard 9)."""
        wait = 0.1
        while True:
            with trio.move_on_after(wait):
                await self.event_shutting_down.wait()
            if self.event_shutting_down.is_set():
                return
            wait = self._patience - (trio.current_time() - self._heard)
            if wait > 0 and self._rtt:
                continue
            wait = self._patience
            try:
                await self._ask()
            except _LOST:
                return

    @property
    def _patience(self) -> float:
        """Who was dialled asks later, so that on a quiet link only the dialler asks: half the work for both."""
        return self.keepalive_s * (1.0 if self.is_initiator else 1.25)

    async def _ask(self) -> None:
        """Ping; anything heard counts as an answer."""
        asked = trio.current_time()
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        self._ping_event = trio.Event()
        self._ping_sent_time = asked
        await self._write_frame(
            struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_PING, yamux.FLAG_SYN, 0, self._ping_id)
        )
        with trio.move_on_after(self.silence_s):
            await self._ping_event.wait()
        if not self._ping_event.is_set() and self._heard <= asked:
            await self._cut("is silent")

    def _sweep_stale_streams(self, now: float | None = None) -> int:
        """Free what nobody has read long after both ends closed, and let its reader know (guard 17)."""
        unread = [self.streams[name] for name, buffer in self.stream_buffers.items() if buffer and name in self.streams]
        swept = super()._sweep_stale_streams(now)
        for stream in unread:
            if stream.stream_id not in self.streams and isinstance(stream, GuardedStream):
                stream.given_up = True
        return swept


class _Heard:
    """A secured connection that reports when bytes arrive; all else is the connection's own."""

    def __init__(self, conn: Any, hear: Callable[[], None]) -> None:
        self._conn = conn
        self._hear = hear

    async def read(self, n: int | None = None) -> bytes:
        """As the connection's own."""
        data: bytes = await self._conn.read(n)
        if data:
            self._hear()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


def _remote_address(self: tcp_stream.TrioTCPStream) -> tuple[str, int] | None:
    """Host and port of the other end, also over IPv6 (guard 18), also after the socket is gone."""
    if self._cached_remote_address is None:
        try:
            host, port = self.stream.socket.getpeername()[:2]
        except (OSError, ValueError):
            return None
        self._cached_remote_address = (str(host), int(port))
    return self._cached_remote_address
