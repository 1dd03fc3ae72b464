"""Situations in which stock py-libp2p fails, on whatever streams and connections are installed.

Each is a function that builds its situation on a virtual clock and says whether all went well. The tests run them with
the guards; ``tests.kit.libp2p_stock`` runs them without.
"""

from __future__ import annotations

# flake8: noqa: ASYNC121  a situation ends where its outcome is known; leaving the nursery cancels what still runs
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import IncompleteReadError
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.exceptions import MuxedStreamReset
from libp2p.stream_muxer.yamux import yamux

PEER = ID.from_pubkey(create_new_key_pair(b"peer".ljust(32)).public_key)
MIB = 1 << 20


class Wire:
    """One end of a connection in memory; while ``gate`` is closed a write stops half-way, as on a full socket."""

    def __init__(self, stream: Any, *, is_initiator: bool) -> None:
        self._stream = stream
        self.is_initiator = is_initiator
        self.gate = trio.Event()
        self.gate.set()

    async def read(self, n: int | None = None) -> bytes:
        """At most ``n`` bytes."""
        return bytes(await self._stream.receive_some(n))

    async def write(self, data: bytes) -> None:
        """Half of it, what the gate lets pass, the other half."""
        half = len(data) // 2
        await self._stream.send_all(data[:half])
        await self.gate.wait()
        await self._stream.send_all(data[half:])

    async def close(self) -> None:
        """The other end reads an end."""
        await self._stream.aclose()


@asynccontextmanager
async def muxer(wire: Wire) -> AsyncIterator[Any]:
    """A running connection on one end of a wire."""

    async def on_close() -> None:
        pass

    wire_typed: Any = wire
    connection = muxer_multistream.Yamux(  # type: ignore[attr-defined]  # the name that the guards replace
        wire_typed, PEER, is_initiator=wire.is_initiator, on_close=on_close
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.start)
        await connection.event_started.wait()
        yield connection
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Any, Any, Wire]]:
    """Two connected muxers, and the first one's wire."""
    here, there = trio.testing.memory_stream_pair()
    wire = Wire(here, is_initiator=True)
    async with muxer(wire) as a, muxer(Wire(there, is_initiator=False)) as b:
        yield a, b, wire


@asynccontextmanager
async def alone() -> AsyncIterator[tuple[Any, Wire, Wire]]:
    """A muxer, its wire, and the bare other end of it, which opens streams with odd numbers."""
    here, there = trio.testing.memory_stream_pair()
    wire = Wire(here, is_initiator=False)
    async with muxer(wire) as connection:
        yield connection, wire, Wire(there, is_initiator=True)


def frame(kind: int, flags: int, stream: int, length: int, data: bytes = b"") -> bytes:
    """A yamux frame."""
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream, length) + data


def data_frame(stream: int, data: bytes, flags: int = 0) -> bytes:
    """A yamux data frame."""
    return frame(yamux.TYPE_DATA, flags, stream, len(data), data)


SYN_1 = frame(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, 1, 0)


async def write_cancelled_half_way() -> bool:
    """2: one stream's writer is cancelled while the socket is full; another stream goes on."""
    async with pair() as (a, b, wire), trio.open_nursery() as nursery:
        first, second = await a.open_stream(), await a.open_stream()
        await b.accept_stream()
        far = await b.accept_stream()
        wire.gate = gate = trio.Event()
        nursery.start_soon(later, 2, gate.set)
        with trio.move_on_after(1):
            await first.write(b"f" * 1000)
        wire.gate = open_gate()
        await trio.sleep(2)
        await second.write(b"second")
        return bool(await far.read(100) == b"second")


async def reset_while_reading() -> bool:
    """3: the peer resets a stream that is being read."""
    async with pair() as (a, b, _), trio.open_nursery() as nursery:
        near = await a.open_stream()
        far = await b.accept_stream()
        nursery.start_soon(later, 1, far.reset)
        try:
            await near.read(1)
        except MuxedStreamReset:
            return True
        except Exception:
            return False
    return False


async def lost_while_reading() -> bool:
    """3: the connection is lost under a stream that is being read."""
    async with pair() as (a, b, wire), trio.open_nursery() as nursery:
        near = await a.open_stream()
        await b.accept_stream()
        nursery.start_soon(later, 1, wire.close)
        try:
            await near.read(1)
        except MuxedStreamReset:
            return True
        except Exception:
            return False
    return False


async def reader_that_pauses() -> bool:
    """4: nobody reads for ten seconds, and then somebody does."""
    async with pair() as (a, b, _), trio.open_nursery() as nursery:
        near = await a.open_stream()
        far = await b.accept_stream()
        nursery.start_soon(near.write, bytes(MIB))
        await trio.sleep(10)
        got = 0
        while got < MIB:
            got += len(await far.read(65536))
        return True


async def peer_that_ignores_the_window() -> bool:
    """5: a peer sends eight MiB that nobody reads."""
    async with alone() as (connection, _, bare):
        with suppress(trio.BrokenResourceError):  # it may be cut off
            await bare.write(SYN_1)
            for _ in range(128):
                await bare.write(data_frame(1, bytes(65536)))
        await trio.sleep(1)
        held = sum(map(len, connection.stream_buffers.values()))
        return bool(held <= 2 * MIB)


async def silent_peer() -> bool:
    """9: a peer says nothing for a minute."""
    async with alone() as (connection, _, _bare):
        await trio.sleep(60)
        return bool(connection.is_closed)


async def read_cancelled_while_granting() -> bool:
    """13: a reader is cancelled when it has taken its bytes and is telling the peer."""
    async with alone() as (connection, wire, bare), trio.open_nursery() as nursery:
        await bare.write(data_frame(1, b"abc", yamux.FLAG_SYN))
        stream = await connection.accept_stream()
        await trio.sleep(0.01)
        wire.gate = gate = trio.Event()
        nursery.start_soon(later, 2, gate.set)
        got = b""
        with trio.move_on_after(1):
            got += await stream.read(3)
        await bare.write(data_frame(1, b"def"))
        wire.gate = open_gate()
        got += await stream.read(3)
        return bool(got == b"abcdef")


async def answer_behind_a_blocked_write() -> bool:
    """14: while our writer waits for the socket, the peer asks for a sign of life and goes on sending."""
    async with alone() as (connection, wire, bare), trio.open_nursery() as nursery:
        await bare.write(SYN_1)
        stream = await connection.accept_stream()
        await trio.sleep(0.01)
        wire.gate = trio.Event()
        nursery.start_soon(stream.write, b"stuck" * 100)
        await trio.sleep(1)
        await bare.write(frame(yamux.TYPE_PING, yamux.FLAG_SYN, 0, 7))
        await bare.write(data_frame(1, b"news"))
        await trio.sleep(1)
        arrived = bytes(connection.stream_buffers[1]) == b"news"
        nursery.cancel_scope.cancel()
        wire.gate.set()
    return arrived


async def message_in_many_pieces() -> bool:
    """15: 200 bytes come one at a time."""

    class Drip:
        async def read(self, n: int | None = None) -> bytes:
            return b"x"

    try:
        reader: Any = Drip()
        return len(await yamux.read_exactly(reader, 200)) == 200  # type: ignore[attr-defined]
    except IncompleteReadError:
        return False


async def reset_here_while_reading() -> bool:
    """16: one task resets a stream that another one reads."""
    async with pair() as (a, b, _), trio.open_nursery() as nursery:
        near = await a.open_stream()
        await b.accept_stream()
        nursery.start_soon(later, 1, near.reset)
        try:
            await near.read(1)
        except Exception:
            return True
    return False


async def unread_for_long() -> bool:
    """17: both ends closed a stream, and what it holds is read minutes later."""
    async with pair() as (a, b, _):
        near = await a.open_stream()
        await near.write(b"kept?")
        await near.close()
        far = await b.accept_stream()
        await trio.sleep(1)
        await far.close()
        await trio.sleep(300)
        try:
            return bool(await far.read(5) == b"kept?")
        except MuxedStreamReset:
            return True
        except Exception:
            return False


async def remote_address_over_ipv6() -> bool:
    """18: who is at the other end of an IPv6 connection."""
    listeners = await trio.open_tcp_listeners(0, host="::1")
    async with listeners[0] as listener:
        port = listener.socket.getsockname()[1]
        async with await trio.open_tcp_stream("::1", port) as stream:
            return TrioTCPStream(stream).get_remote_address() == ("::1", port)


async def cancelled_with_all_its_tasks() -> bool:
    """21: the tasks of a connection are cancelled; its other end learns that it is over."""
    here, there = trio.testing.memory_stream_pair()
    async with muxer(Wire(here, is_initiator=True)):
        await trio.sleep(0.01)
    far = Wire(there, is_initiator=False)
    while await far.read(100):
        pass
    return True


Trap = Callable[[], Awaitable[bool]]
TRAPS: dict[str, Trap] = {
    "02": write_cancelled_half_way,
    "03": reset_while_reading,
    "03b": lost_while_reading,
    "04": reader_that_pauses,
    "05": peer_that_ignores_the_window,
    "09": silent_peer,
    "13": read_cancelled_while_granting,
    "14": answer_behind_a_blocked_write,
    "15": message_in_many_pieces,
    "16": reset_here_while_reading,
    "17": unread_for_long,
    "18": remote_address_over_ipv6,
    "21": cancelled_with_all_its_tasks,
}


def escaped(trap: Trap) -> bool:
    """Whether all goes well in a situation. A hang or an exception is not going well."""

    async def run() -> bool:
        with trio.move_on_after(1000):
            return await trap()
        return False

    clock = None if trap is remote_address_over_ipv6 else trio.testing.MockClock(autojump_threshold=0)
    try:
        return trio.run(run, clock=clock)
    except Exception:
        return False


async def later(seconds: float, act: Callable[[], Any]) -> None:
    """Do something after a while."""
    await trio.sleep(seconds)
    result = act()
    if isinstance(result, Awaitable):
        await result


def open_gate() -> trio.Event:
    """A gate that lets all pass."""
    gate = trio.Event()
    gate.set()
    return gate


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
