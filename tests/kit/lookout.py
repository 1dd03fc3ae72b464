"""Alice looks around: everything she dials, asks and remembers is noted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing

from meshnode.domain import PeerId
from meshnode.errors import DiskFull
from meshnode.identity import Identity
from meshnode.mesh.discover import Discovery
from meshnode.net.directory import ENOUGH, Directory, Hint
from meshnode.net.memory import MemoryHost, MemoryNetwork
from tests.kit.peers import identity
from tests.kit.streams import ANY_PORT
from tests.kit.tellers import Teller, open_teller


class ListedDirectory:
    """A directory that says what it was given, and notes what it is asked."""

    def __init__(self) -> None:
        self.hints: dict[str, list[Hint]] = {}
        self.asked: list[tuple[float, str]] = []
        self.provided: list[set[str]] = []
        self.delay_s = 0.5

    @property
    def published(self) -> frozenset[str]:
        """All that is provided."""
        return frozenset(self.provided[-1]) if self.provided else frozenset()

    async def provide(self, names: Collection[str]) -> None:
        """Note it."""
        self.provided.append(set(names))
        await trio.lowlevel.checkpoint()

    async def find(self, name: str, *, enough: int = ENOUGH, besides: Collection[PeerId] = ()) -> tuple[Hint, ...]:
        """As listed."""
        self.asked.append((trio.current_time(), name))
        await trio.sleep(self.delay_s)
        return tuple(hint for hint in self.hints.get(name, ()) if hint.peer not in besides)[: 2 * enough]

    def list(self, name: str, *hosts: MemoryHost) -> None:
        """These may serve it."""
        self.hints.setdefault(name, []).extend(Hint(peer=host.peer_id, addresses=host.addresses) for host in hosts)

    def list_dead(self, name: str, count: int) -> None:
        """Nobody answers at these."""
        for number in range(count):
            peer = identity(f"dead {number}").peer_id
            address = f"/ip4/10.9.{number // 250}.{number % 250 + 1}/tcp/9338/p2p/{peer}"
            self.hints.setdefault(name, []).append(Hint(peer=peer, addresses=(address,)))


class Around:
    """Alice, who looks around, in a network of hosts."""

    def __init__(self, network: MemoryNetwork, teller: Teller, host: MemoryHost) -> None:
        self.network = network
        self.teller = teller
        self.host = host
        self.directory = ListedDirectory()
        self.remembered: list[tuple[PeerId, tuple[str, ...]]] = []
        self.dials: list[tuple[float, PeerId]] = []
        self.most_dials = 0
        self._dialling = 0
        self.full = False
        self._reach = host.reach
        host.reach = self.reach  # type: ignore[method-assign]  # watched

    def discovery(
        self,
        *,
        directory: Directory | None = None,
        remembered: Sequence[Hint] = (),
        found: trio.MemoryReceiveChannel[str] | None = None,
        belongs: bool = True,
    ) -> Discovery:
        """Alice's discovery, not yet running."""
        return Discovery(
            self.host, directory or self.directory, self.teller.book, self.teller.announcer,
            chance=lambda: 0.5, remember=self.remember, remembered=remembered, found=found,
            belongs=lambda: belongs,
        )  # fmt: skip

    async def remember(self, peer: PeerId, addresses: tuple[str, ...]) -> None:
        """Note it, unless the disk is full."""
        await trio.lowlevel.checkpoint()
        if self.full:
            raise DiskFull("no space")
        self.remembered.append((peer, addresses))

    async def reach(self, peer: PeerId) -> None:
        """Count a dial; one to nobody takes as long as its caller has patience."""
        if peer in self.host.peers:
            return
        self.dials.append((trio.current_time(), peer))
        self._dialling += 1
        self.most_dials = max(self.most_dials, self._dialling)
        try:
            if any(peer == identity(f"dead {number}").peer_id for number in range(100)):
                await trio.sleep(1000)
            await self._reach(peer)
        finally:
            self._dialling -= 1


@asynccontextmanager
async def running(discovery: Discovery) -> AsyncIterator[Discovery]:
    """It runs as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discovery.run)
        await trio.testing.wait_all_tasks_blocked()
        yield discovery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def provider(network: MemoryNetwork, who: Identity, *models: str) -> AsyncIterator[MemoryHost]:
    """A host that tells what it offers."""
    async with network.open_host(who, ANY_PORT) as host, open_teller(who, host, *models):
        yield host
