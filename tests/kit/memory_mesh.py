"""Nodes of the DHT on hosts in memory, and peers that do not keep to its rules."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from meshnode.identity import Identity
from meshnode.net.kad_wire import Message, Reader
from meshnode.net.kademlia import PROTOCOL, Kademlia, open_directory
from meshnode.net.memory import MemoryHost, MemoryNetwork
from meshnode.net.transport import Stream, Transport


class Mesh:
    """Hosts in memory, those that are asked for with a directory; each in a task of its own."""

    def __init__(self, network: MemoryNetwork, nursery: trio.Nursery) -> None:
        self._network = network
        self._nursery = nursery

    async def host(self, who: Identity) -> MemoryHost:
        """A host that listens."""
        host: MemoryHost = await self._nursery.start(live, self._network.open_host(who, ["/ip4/10.0.0.1/tcp/0"]))
        return host

    async def node(self, who: Identity, *through: MemoryHost) -> tuple[MemoryHost, Kademlia]:
        """A host with a directory, connected to others."""
        host = await self.host(who)
        directory: Kademlia = await self._nursery.start(live, open_directory(host, "test"))
        for other in through:
            await host.connect(other.addresses[0])
        return host, directory


async def live(context: AbstractAsyncContextManager[object], *, task_status: trio.TaskStatus[object]) -> None:
    """Stay within a context."""
    async with context as value:
        task_status.started(value)
        await trio.sleep_forever()


async def silence(stream: Stream) -> None:
    """Take a question and never answer."""
    while await stream.read():
        pass
    await trio.sleep_forever()


async def said(host: Transport, question: bytes, to: Identity) -> Message | None:
    """The first answer to some bytes. Raises as a stream does."""
    async with host.open_stream(to.peer_id, PROTOCOL) as stream:
        await stream.write(question)
        await stream.close_write()
        return await Reader(stream, local=True).next()
