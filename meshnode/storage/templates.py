"""Prompt templates of this node: what its owner wrote, by name and version; a version is never changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from meshnode.domain import Message, Record
from meshnode.errors import Conflict, NotFound
from meshnode.storage.database import Connection, Database

MOST_VERSIONS: Final = 1000
"""Versions of one template; each is kept whole."""


class PromptTemplate(Record, frozen=True):
    """One version. ``created`` in seconds since 1970."""

    id: str
    version: int
    created: int
    messages: tuple[Message, ...]


class Templates:
    """The templates on a database. ``now`` gives seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def add(self, id_: str, messages: tuple[Message, ...]) -> PromptTemplate:
        """Keep these as the newest version, the first being 1. Raises Conflict when there are too many, DiskFull."""
        created, text = int(self._now()), msgspec.json.encode(messages).decode()

        def insert(connection: Connection) -> int:
            # A name that was deleted begins after its last version: what somebody pinned never becomes another text.
            query = "SELECT coalesce(max(version), 0), count(messages) FROM prompt_template WHERE id = ?"
            newest, kept = connection.execute(query, (id_,)).fetchone()
            if kept >= MOST_VERSIONS:
                raise Conflict(f"the template {id_!r} has {kept} versions, which is all it can.", hint="Delete it.")
            row = (id_, newest + 1, created, text)
            connection.execute("INSERT INTO prompt_template (id, version, created, messages) VALUES (?, ?, ?, ?)", row)
            return int(newest) + 1

        return PromptTemplate(id=id_, version=await self._database.write(insert), created=created, messages=messages)

    async def get(self, id_: str, version: int | None = None) -> PromptTemplate:
        """That version, else the newest. Raises NotFound."""

        def select(connection: Connection) -> tuple[int, int, str] | None:
            query = (
                "SELECT version, created, messages FROM prompt_template WHERE id = ? AND messages IS NOT NULL"
                " AND (? IS NULL OR version = ?) ORDER BY version DESC LIMIT 1"
            )
            row: tuple[int, int, str] | None = connection.execute(query, (id_, version, version)).fetchone()
            return row

        row = await self._database.read(select)
        if row is None:
            which = f"template {id_[:80]!r}" + ("" if version is None else f" of version {version}")
            raise NotFound(f"there is no {which}.", hint="GET /api/templates lists them.", param="template")
        return PromptTemplate(
            id=id_, version=row[0], created=row[1], messages=msgspec.json.decode(row[2], type=tuple[Message, ...])
        )

    async def newest(self) -> tuple[PromptTemplate, ...]:
        """The newest version of each, by name."""

        def select(connection: Connection) -> list[tuple[str, int, int, str]]:
            query = (
                "SELECT id, max(version), created, messages FROM prompt_template WHERE messages IS NOT NULL"
                " GROUP BY id ORDER BY id"
            )
            return connection.execute(query).fetchall()

        rows = await self._database.read(select)
        return tuple(
            PromptTemplate(id=i, version=v, created=at, messages=msgspec.json.decode(text, type=tuple[Message, ...]))
            for i, v, at, text in rows
        )

    async def delete(self, id_: str) -> int:
        """Forget every version of it; gives how many there were. Raises NotFound."""

        def delete(connection: Connection) -> int:
            query = "UPDATE prompt_template SET messages = NULL WHERE id = ? AND messages IS NOT NULL"
            return connection.execute(query, (id_,)).rowcount

        if not (count := await self._database.write(delete)):
            raise NotFound(f"there is no template {id_[:80]!r}.", hint="GET /api/templates lists them.")
        return count
