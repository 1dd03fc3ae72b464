"""What the node keeps for its users, sealed: answers, jobs, sessions, files; each seen only by its principal.

An object lies in the table ``sealed`` as AES-256-GCM (NIST SP 800-38D) under the home's key, with a random nonce of 96
bits; what it is and whose is bound to it as associated data, so that a row moved to another place does not open. What
stands there in the open is who, what kind, which id and when. A row that does not open is one lost object, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from meshnode.domain import CallerId, Record
from meshnode.errors import MeshnodeError, NotFound
from meshnode.storage.database import Connection, Database

T = TypeVar("T", bound=Record)

DAY_S: Final = 86_400
NONCE_BYTES: Final = 12
MOST_READ: Final = 8 << 20
"""Bytes after which a page ends, however few objects it has: each may be as large as a request's body."""
_FORMAT: Final = b"\x01"
_COLUMNS: Final = "principal, kind, id, part_of, created, expires, unfinished, blob"
_ID: Final = 2
"""The place of the id in these."""
_log = structlog.get_logger()


class Item(Record, frozen=True):
    """One kept object; ``id`` is unique among those of its principal and kind. Times in seconds since 1970.

    ``part_of`` is the id of the object that it goes with when that is deleted. ``unfinished``: the node has still to
    work on it. ``created`` 0 stands for now; ``expires`` is said by the vault.
    """

    principal: CallerId
    kind: str
    id: str
    data: bytes
    part_of: str = ""
    unfinished: bool = False
    created: int = 0
    expires: int = 0


class Page(NamedTuple):
    """Some objects in order, whether there are more behind them, and after which id those begin."""

    items: tuple[Item, ...]
    more: bool
    last: str | None = None


class Ref(NamedTuple):
    """Where an object of a known kind is."""

    principal: CallerId
    id: str


class Shelf:
    """What is known of the sealed objects without the key: how many there are; and that they can be thrown away.

    ``change_locks`` makes the key useless.
    """

    def __init__(self, database: Database, now: Callable[[], float], change_locks: Callable[[], object]) -> None:
        self._database = database
        self._now = now
        self._change_locks = change_locks

    async def counts(self) -> Mapping[str, int]:
        """How many objects of each kind are kept, those of all principals."""
        now = int(self._now())

        def select(connection: Connection) -> dict[str, int]:
            query = "SELECT kind, count(*) FROM sealed WHERE expires > ? GROUP BY kind ORDER BY kind"
            return dict(connection.execute(query, (now,)).fetchall())

        return await self._database.read(select)

    async def clear(self) -> Mapping[str, int]:
        """Delete everything of everybody, and the key; gives how many objects of each kind there were.

        Copies of the database that were kept before its schema changed hold the objects still, but nothing opens them.
        """

        def delete(connection: Connection) -> dict[str, int]:
            found = connection.execute("SELECT kind, count(*) FROM sealed GROUP BY kind ORDER BY kind").fetchall()
            connection.execute("DELETE FROM sealed")
            self._change_locks()
            return dict(found)

        return await self._database.write(delete)

    async def expire(self) -> int:
        """Delete what has had its time; gives how many objects that were."""
        now = int(self._now())
        return await self._database.write(
            lambda connection: connection.execute("DELETE FROM sealed WHERE expires <= ?", (now,)).rowcount
        )

    async def tidy(self) -> None:
        """The same; what the disk does not allow is left for another time."""
        try:
            await self.expire()
        except MeshnodeError as error:
            _log.warning("expiry_failed", code=error.code)


class Vault(Shelf):
    """The sealed objects, for who has the key (32 bytes).

    ``entropy`` gives that many random bytes, ``new_key`` another key in the place of this one (``None``: there is but
    one).
    """

    def __init__(
        self,
        database: Database,
        key: bytes,
        *,
        entropy: Callable[[int], bytes],
        now: Callable[[], float],
        keep_s: int = 30 * DAY_S,
        new_key: Callable[[], bytes] | None = None,
    ) -> None:
        super().__init__(database, now, self._take_new_key)
        self._cipher = AESGCM(key)
        self._new_key = new_key
        self._entropy = entropy
        self._keep_s = keep_s

    async def put(self, *items: Item) -> None:
        """Keep these, all or none, in the place of those of the same principal, kind and id. Raises DiskFull."""

        def insert(connection: Connection) -> None:
            for item in items:
                self._insert(connection, item)

        await self._database.write(insert)

    async def replace(self, item: Item, *beside: Item) -> bool:
        """Keep this in the place of the one that is there, and others with it, all or none.

        False, and nothing done, where none is there (any more).
        """

        def update(connection: Connection) -> bool:
            query = "SELECT 1 FROM sealed WHERE principal = ? AND kind = ? AND id = ?"
            there = connection.execute(query, (item.principal, item.kind, item.id)).fetchone() is not None
            for one in (item, *beside) if there else ():
                self._insert(connection, one)
            return there

        return await self._database.write(update)

    async def get(self, principal: CallerId, kind: str, id_: str) -> Item:
        """The object. Raises NotFound: there is none, it is somebody else's, its time is over, or it does not open."""
        now = int(self._now())

        def select(connection: Connection) -> Item | None:
            query = f"SELECT {_COLUMNS} FROM sealed WHERE principal = ? AND kind = ? AND id = ? AND expires > ?"
            row = connection.execute(query, (principal, kind, id_, now)).fetchone()
            if row is None:
                raise absent(kind, id_)
            return self._opened(row)

        item = await self._database.read(select)
        if item is None:
            raise NotFound(
                f"the {kind} {id_[:80]!r} is lost: it is damaged, or was sealed with another key.",
                hint="The key is vault.key in the node's home.",
            )
        return item

    async def page(
        self,
        principal: CallerId,
        kind: str,
        *,
        part_of: str = "",
        after: str | None = None,
        limit: int = 20,
        newest_first: bool = False,
    ) -> Page:
        """Objects in the order in which they were first kept; one that does not open is left out.

        Large ones may be fewer than ``limit``, with more behind them. ``after`` is the id of the last one seen. Raises
        NotFound when there is no such object.
        """
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        query = (
            f"SELECT {_COLUMNS} FROM sealed WHERE principal = ? AND kind = ? AND part_of = ? AND expires > ?"
            f" AND seq {beyond} ? ORDER BY seq {order} LIMIT ?"
        )
        now = int(self._now())

        def select(connection: Connection) -> Page:
            start = (1 << 62) if newest_first else 0
            if after is not None:
                start = _place(connection, principal, kind, after)
            rows = connection.execute(query, (principal, kind, part_of, now, start, limit + 1))
            return self._page(rows, limit)

        return await self._database.read(select)

    async def delete(self, principal: CallerId, kind: str, id_: str) -> None:
        """Forget the object and its parts. Raises NotFound."""

        def delete(connection: Connection) -> None:
            query = "DELETE FROM sealed WHERE principal = ? AND kind = ? AND id = ?"
            if not connection.execute(query, (principal, kind, id_)).rowcount:
                raise absent(kind, id_)
            connection.execute("DELETE FROM sealed WHERE principal = ? AND part_of = ?", (principal, id_))

        await self._database.write(delete)

    async def unfinished(self, kind: str) -> tuple[Ref, ...]:
        """Where the objects are that the node has still to work on, everybody's, oldest first."""
        now = int(self._now())

        def select(connection: Connection) -> tuple[Ref, ...]:
            query = "SELECT principal, id FROM sealed WHERE kind = ? AND unfinished = 1 AND expires > ? ORDER BY seq"
            return tuple(Ref(CallerId(who), id_) for who, id_ in connection.execute(query, (kind, now)))

        return await self._database.read(select)

    # --- sealing ----------------------------------------------------------------------------------

    def _take_new_key(self) -> None:
        if self._new_key is not None:
            self._cipher = AESGCM(self._new_key())

    def _insert(self, connection: Connection, item: Item) -> None:
        now = int(self._now())
        nonce = self._entropy(NONCE_BYTES)
        bound = _bound(item.principal, item.kind, item.id, item.part_of)
        blob = _FORMAT + nonce + self._cipher.encrypt(nonce, item.data, bound)
        connection.execute(
            f"INSERT INTO sealed ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (principal, kind, id)"
            " DO UPDATE SET part_of = excluded.part_of, expires = excluded.expires,"
            " unfinished = excluded.unfinished, blob = excluded.blob",
            (
                item.principal,
                item.kind,
                item.id,
                item.part_of,
                item.created or now,
                now + self._keep_s,
                item.unfinished,
                blob,
            ),
        )

    def _page(self, rows: Iterable[Any], limit: int) -> Page:
        """The first objects of these rows, one row at a time."""
        items: list[Item] = []
        seen, size, last = 0, 0, None
        for row in rows:
            if seen == limit or size >= MOST_READ:
                return Page(tuple(items), True, last)
            seen, size, last = seen + 1, size + len(row[-1]), row[_ID]
            if (item := self._opened(row)) is not None:
                items.append(item)
        return Page(tuple(items), False, last)

    def _opened(self, row: Iterable[Any]) -> Item | None:
        principal, kind, id_, part_of, created, expires, unfinished, blob = row
        head = len(_FORMAT) + NONCE_BYTES
        try:
            if not blob.startswith(_FORMAT):
                raise InvalidTag
            data = self._cipher.decrypt(blob[len(_FORMAT) : head], blob[head:], _bound(principal, kind, id_, part_of))
        except (InvalidTag, ValueError):  # ValueError: too short for a nonce and a tag
            _log.warning("kept_object_lost", kind=kind, id=id_)
            return None
        return Item(
            principal=principal,
            kind=kind,
            id=id_,
            data=data,
            part_of=part_of,
            unfinished=bool(unfinished),
            created=created,
            expires=expires,
        )


def contents(item: Item, record: type[T]) -> T:
    """The record that an object holds. Raises NotFound where another version of meshnode wrote another one."""
    try:
        return msgspec.msgpack.decode(item.data, type=record)
    except msgspec.DecodeError:
        _log.warning("kept_object_lost", kind=item.kind, id=item.id)
        raise NotFound(f"the {item.kind} {item.id[:80]!r} is lost: another version of meshnode kept it.") from None


def readable(items: Iterable[Item], record: type[T]) -> list[T]:
    """The records that these objects hold, without those that another version wrote."""
    records: list[T] = []
    for item in items:
        with suppress(NotFound):
            records.append(contents(item, record))
    return records


def _bound(*what: str) -> bytes:
    """What an object is and whose, as one text that cannot be read in two ways."""
    return msgspec.msgpack.encode(what)


def _place(connection: Connection, principal: CallerId, kind: str, id_: str) -> int:
    query = "SELECT seq FROM sealed WHERE principal = ? AND kind = ? AND id = ?"
    row = connection.execute(query, (principal, kind, id_)).fetchone()
    if row is None:
        raise absent(kind, id_, param="after")
    return int(row[0])


def absent(kind: str, id_: str, *, param: str | None = None) -> NotFound:
    """The error for an object that is not there, or not for this principal: the two cannot be told apart."""
    return NotFound(
        f"there is no {kind} {id_[:80]!r}.",
        hint="Those of others and those whose time is over count as none.",
        param=param,
    )
