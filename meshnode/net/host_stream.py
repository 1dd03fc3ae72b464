"""One libp2p stream behind our contract, and how it is agreed upon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from meshnode.domain import PeerId
from meshnode.errors import PeerError, StreamReset, Unreachable
from meshnode.net.guards import GuardedStream
from meshnode.net.transport import CHUNK


async def select(net: INetStream, protocol: str) -> None:
    """Agree with the other end on ``protocol``. Raises libp2p's ProtocolNotSupportedError when it declines."""
    client, communicator = MultiselectClient(), MultiselectCommunicator(net)
    await client.handshake(communicator)
    await client.try_select(communicator, TProtocol(protocol))


class HostStream:
    """A Stream on a libp2p connection."""

    def __init__(self, net: INetStream, peer: PeerId, protocol: str) -> None:
        if not isinstance(net, NetStream) or not isinstance(net.muxed_stream, GuardedStream):
            raise TypeError(f"not a guarded stream: {type(net).__name__}")
        self._net = net
        self._muxed: GuardedStream = net.muxed_stream
        self._peer = peer
        self._protocol = protocol
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
        if self._over:
            raise trio.ClosedResourceError
        try:
            return await self._net.read(limit)
        except StreamEOF:
            return b""
        except StreamError as error:
            raise self.failure("gave up the stream") from error

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting while the peer does not read."""
        if self._over or self._ended:
            raise trio.ClosedResourceError
        try:
            await self._net.write(data)
        except StreamError as error:
            raise self.failure("gave up the stream") from error

    async def close_write(self) -> None:
        """End our side."""
        if self._over or self._ended:
            return
        self._ended = True
        await self._quietly(self._net.close_write)

    async def close(self) -> None:
        """End both sides: first a FIN, so that what was written arrives, then what makes the peer stop writing."""
        if self._over:
            return
        await self.close_write()
        self._over = True
        with trio.CancelScope(shield=True):
            await self._quietly(self._net.close if self._muxed.recv_closed else self._net.reset)

    async def reset(self) -> None:
        """Give the stream up."""
        if self._over:
            return
        self._over = True
        with trio.CancelScope(shield=True):
            await self._quietly(self._net.reset)

    def failure(self, what: str) -> PeerError | trio.ClosedResourceError:
        """Why nothing more comes, as an error to raise: closed here, connection lost, or ``what`` the peer did."""
        if self._over:
            return trio.ClosedResourceError("closed by another task")
        if self._muxed.lost:
            return Unreachable(f"The connection to {self._peer} was lost.")
        return StreamReset(f"{self._peer} {what}.")

    async def _quietly(self, act: Callable[[], Awaitable[None]]) -> None:
        """Closing what is closed already, or lost, is no error."""
        try:
            await act()
        except BaseLibp2pError:
            return
