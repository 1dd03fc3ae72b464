"""A directory without a DHT: one board for all hosts of a network in memory, by the same rules of shards and times.

It keeps the contract of :mod:`meshnode.net.directory` and costs next to nothing, so that simulations can have hundreds
of nodes. It has no walk, so it does not know who reaches whom: a host that is connected to anybody reads and writes the
board, one that is not does neither. Where that matters run :mod:`meshnode.net.kademlia` itself on the hosts in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import trio

from meshnode.domain import PeerId
from meshnode.net.directory import ENOUGH, ROOM, Directory, Hint, Key, Outcome, Search, Timing, stem_of
from meshnode.net.memory import MemoryHost
from meshnode.net.provider_records import MOST_ADDRESSES, ProviderRecords
from meshnode.net.publishing import Publisher


class Board:
    """What all directories in memory write to and read from."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self.records = ProviderRecords(self.timing.expire_s)

    @asynccontextmanager
    async def open_directory(self, host: MemoryHost, network: str) -> AsyncIterator[Directory]:
        """The directory of ``network`` for ``host``, as :func:`meshnode.net.kademlia.open_directory`."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            directory = MemoryDirectory(host, network, self)
            nursery.start_soon(directory.run)
            try:
                yield directory
            except Exception as error:  # raised again below: the nursery would wrap it in a group
                failure = error
            finally:
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


class MemoryDirectory:
    """One host's view of the board. Made by :meth:`Board.open_directory`."""

    def __init__(self, host: MemoryHost, network: str, board: Board) -> None:
        self._host = host
        self._network = network
        self._board = board
        self._publisher = Publisher(network, host.peer_id, board.timing, self._write)

    @property
    def published(self) -> frozenset[str]:
        """The names that are on the board, and not expired since."""
        return self._publisher.published

    async def provide(self, names: Collection[str]) -> None:
        """From now on tell that this node provides ``names``, and no others. Returns at once."""
        self._publisher.replace(names)
        await trio.lowlevel.checkpoint()

    async def find(self, name: str, *, enough: int = ENOUGH, besides: Collection[PeerId] = ()) -> tuple[Hint, ...]:
        """Peers that may serve ``name``."""
        search = Search(stem_of(self._network, name), enough, (*besides, self._host.peer_id))

        async def read(key: Key) -> None:
            await trio.lowlevel.checkpoint()
            search.take(key, self._board.records.get(key, trio.current_time()))

        if self._host.peers:
            await search.run(read)
        await trio.lowlevel.checkpoint()
        return tuple(search.found.values())

    async def run(self) -> None:
        """Publish, and try again when somebody connects; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publisher.run)
            peers = self._host.peers
            while True:
                peers = await self._host.wait_change(peers)
                self._publisher.hurry()

    async def _write(self, key: Key) -> Outcome:
        addresses = self._host.addresses[:MOST_ADDRESSES]
        if not self._host.peers or not addresses:
            await trio.lowlevel.checkpoint()
            return Outcome.REFUSED
        there = {hint.peer for hint in self._board.records.get(key, trio.current_time())}
        if len(there) >= ROOM and self._host.peer_id not in there:
            return Outcome.FULL
        await self._publisher.turn()
        hint = Hint(peer=self._host.peer_id, addresses=addresses)
        kept = self._board.records.add(key, hint, None, trio.current_time())
        return Outcome.PLACED if kept else Outcome.REFUSED
