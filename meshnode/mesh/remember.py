"""What a node remembers of its mesh from one start to the next: whom to call, and what its owner lends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from meshnode.domain import ModelId, PeerId
from meshnode.storage.database import Connection, Database

MOST_PEERS: Final = 256
MOST_ADDRESSES: Final = 8
"""Addresses of one peer."""
LONGEST_ADDRESS: Final = 200
KEEP_S: Final = 30 * 86400
"""How long a peer that is not seen is remembered."""


class Seen(NamedTuple):
    """A peer and where it was reached or said to be."""

    peer: PeerId
    addresses: tuple[str, ...]


class Remembered:
    """Tables of the node's database. ``now`` gives seconds since 1970. Methods raise what the database raises."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    # --- addresses the owner named ------------------------------------------------------------

    async def add(self, address: str) -> None:
        """Connect to ``address`` at each start from now on; naming it twice is naming it once."""

        def insert(connection: Connection) -> None:
            connection.execute("INSERT INTO joined_address (address) VALUES (?) ON CONFLICT DO NOTHING", (address,))

        await self._database.write(insert)

    async def joined(self) -> tuple[str, ...]:
        """Every address added, in that order."""

        def select(connection: Connection) -> list[tuple[str]]:
            return connection.execute("SELECT address FROM joined_address ORDER BY id").fetchall()

        return tuple(address for (address,) in await self._database.read(select))

    async def forget_all(self) -> int:
        """Forget every address, added or seen; gives how many addresses and peers that were."""

        def delete(connection: Connection) -> int:
            tables = ("joined_address", "peer_address")
            return sum(connection.execute(f"DELETE FROM {table}").rowcount for table in tables)

        return await self._database.write(delete)

    # --- peers that were seen -----------------------------------------------------------------

    async def saw(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """A peer was met just now; its addresses replace those known before.

        At most eight are kept, of at most 200 characters; a peer without any is not worth a row. The peers not seen
        for longest make room, and those not seen for 30 days are dropped. A date in the future, from when the clock was
        wrong, becomes today's.
        """
        kept = [address for address in addresses if len(address) <= LONGEST_ADDRESS][:MOST_ADDRESSES]
        if not kept:
            return
        now = int(self._now())
        text = msgspec.json.encode(kept).decode()

        def replace(connection: Connection) -> None:
            connection.execute("DELETE FROM peer_address WHERE peer = ? OR at_s < ?", (peer, now - KEEP_S))
            connection.execute("UPDATE peer_address SET at_s = ? WHERE at_s > ?", (now, now))
            connection.execute("INSERT INTO peer_address (peer, at_s, addresses) VALUES (?, ?, ?)", (peer, now, text))
            connection.execute(
                "DELETE FROM peer_address WHERE id NOT IN (SELECT id FROM peer_address ORDER BY id DESC LIMIT ?)",
                (MOST_PEERS,),
            )

        await self._database.write(replace)

    async def recent(self, n: int) -> tuple[Seen, ...]:
        """The ``n`` peers seen last, newest first."""
        oldest = int(self._now()) - KEEP_S

        def select(connection: Connection) -> list[tuple[str, str]]:
            query = "SELECT peer, addresses FROM peer_address WHERE at_s >= ? ORDER BY id DESC LIMIT ?"
            return connection.execute(query, (oldest, max(n, 0))).fetchall()

        rows = await self._database.read(select)
        return tuple(Seen(PeerId(peer), msgspec.json.decode(text, type=tuple[str, ...])) for peer, text in rows)

    # --- what is lent -------------------------------------------------------------------------

    async def set_served(self, model: ModelId, on: bool) -> None:
        """Strangers may use a model, or may not, whatever the configuration says; case in its name does not count."""

        def upsert(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO serve_override VALUES (?, ?) ON CONFLICT DO UPDATE SET served = excluded.served",
                (model, int(on)),
            )

        await self._database.write(upsert)

    async def served(self) -> Mapping[ModelId, bool]:
        """What was said of models; of others the configuration decides."""

        def select(connection: Connection) -> list[tuple[str, int]]:
            return connection.execute("SELECT model, served FROM serve_override").fetchall()

        return {ModelId(model): bool(on) for model, on in await self._database.read(select)}
