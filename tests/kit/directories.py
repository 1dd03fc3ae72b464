"""Nodes with a directory, of every kind there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio

from meshnode.domain import PeerId
from meshnode.net import kademlia
from meshnode.net.directory import Directory, Hint, Timing
from meshnode.net.host import open_host
from meshnode.net.memory import MemoryHost, open_network
from meshnode.net.memory_directory import Board
from meshnode.net.transport import Transport
from tests.kit.peers import identity
from tests.kit.streams import ANY_PORT, Opener

KINDS = ("board", "memory", "libp2p")
"""A board for all in memory; Kademlia on hosts in memory; Kademlia on libp2p."""


class Node:
    """A host and its directory, in a task of their own."""

    def __init__(self, host: Transport, directory: Directory) -> None:
        self.host = host
        self.directory = directory
        self.leaving = trio.Event()
        self.left = trio.Event()

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        return self.host.peer_id

    async def leave(self) -> None:
        """Close the directory, then the host."""
        self.leaving.set()
        await self.left.wait()


class Nodes:
    """Opens nodes of one kind, all with the same times."""

    def __init__(self, opener: Opener, timing: Timing, board: Board | None, nursery: trio.Nursery) -> None:
        self._opener = opener
        self._timing = timing
        self._board = board
        self._nursery = nursery
        self._opened: list[Node] = []

    async def close(self) -> None:
        """Let all leave, one after another, as programs do: hosts that are cancelled all at once leave sockets open."""
        for node in self._opened:
            await node.leave()

    async def open(self, name: str, *through: Node, network: str = "test") -> Node:
        """A node that is connected to others."""
        node: Node = await self._nursery.start(self._live, name, network)
        self._opened.append(node)
        for other in through:
            await node.host.connect(other.host.addresses[0])
        return node

    async def _live(self, name: str, network: str, *, task_status: trio.TaskStatus[Node]) -> None:
        async with self._opener(identity(name), ANY_PORT) as host, self._directory(host, network) as directory:
            node = Node(host, directory)
            task_status.started(node)
            await node.leaving.wait()
        node.left.set()

    def _directory(self, host: Transport, network: str) -> AbstractAsyncContextManager[Directory]:
        if self._board is not None:
            assert isinstance(host, MemoryHost)
            return self._board.open_directory(host, network)
        return kademlia.open_directory(host, network, timing=self._timing)


@asynccontextmanager
async def open_nodes(kind: str, timing: Timing | None = None) -> AsyncIterator[Nodes]:
    """Nodes of a kind; whatever was opened is closed at the end."""
    times = timing or Timing()
    async with AsyncExitStack() as stack:
        opener: Opener = open_host
        if kind != "libp2p":
            opener = (await stack.enter_async_context(open_network())).open_host
        nursery = await stack.enter_async_context(trio.open_nursery())
        nodes = Nodes(opener, times, Board(times) if kind == "board" else None, nursery)
        try:
            yield nodes
        finally:
            with trio.move_on_after(60, shield=True):
                await nodes.close()


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for what no event tells of."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # on purpose
            await trio.sleep(0.01)


async def published(node: Node, *names: str) -> None:
    """Provide names, and wait until others have them."""
    await node.directory.provide(names)
    await until(lambda: node.directory.published == set(names))


def peers(hints: tuple[Hint, ...]) -> list[PeerId]:
    """Who was found, sorted."""
    return sorted(hint.peer for hint in hints)
