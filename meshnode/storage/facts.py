"""What happened on this node, as facts: appended, never changed, never deleted.

A fact has a kind, a time and a few scalar fields, declared per kind in :data:`KINDS`. No field can hold prose: text is
a name or a code, without blanks and bounded, so that no prompt and no answer can ever stand in this log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog

from meshnode.domain import Record
from meshnode.errors import InternalFault, OwnerError
from meshnode.storage.database import Connection, Database

Scalar = str | int | float | bool


class Name:
    """Field type: an identifier (model, peer id, hash, version, code): no blanks, at most 200 characters."""

    @staticmethod
    def admits(value: object) -> bool:
        """Whether ``value`` is such a name."""
        return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._:/@+=-]{1,200}", value) is not None


class Count:
    """Field type: a whole number from 0 to 2**63 - 1."""

    @staticmethod
    def admits(value: object) -> bool:
        """Whether ``value`` is such a number."""
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


class Seconds:
    """Field type: a duration."""

    @staticmethod
    def admits(value: object) -> bool:
        """Whether ``value`` is a number of seconds, 0 or more."""
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


FieldType = type[Name] | type[Count] | type[Seconds]

KINDS: Final[Mapping[str, Mapping[str, FieldType]]] = {
    "node_started": {"version": Name, "peer_id": Name},
    "node_stopped": {"reason": Name, "uptime_s": Seconds},
    "model_added": {"model": Name, "size": Count},
    "model_removed": {"model": Name},
    "model_loaded": {"model": Name, "load_s": Seconds, "active": Count, "decode_mtps": Count, "gpu_layers": Count},
    "model_failed": {"model": Name, "code": Name},
    "worker_died": {"model": Name},
}
"""Every kind and its fields; all of them must be given."""


class Fact(Record, frozen=True):
    """One thing that happened. ``at_ms`` is wall-clock time in milliseconds since 1970."""

    id: int
    kind: str
    at_ms: int
    fields: Mapping[str, Scalar]


class Facts:
    """The fact log on a database. ``now`` gives seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def append(self, kind: str, fields: Mapping[str, Scalar]) -> Fact:
        """Write one fact down; it is on the disk when this returns.

        Raises InternalFault when the kind or a field is not one of :data:`KINDS` (a defect, whose text names the
        field and not its value), and what the database raises.
        """
        check(kind, fields)
        at_ms = int(self._now() * 1000)
        text = msgspec.json.encode(dict(fields)).decode()

        def insert(connection: Connection) -> int:
            row = connection.execute("INSERT INTO fact (kind, at_ms, fields) VALUES (?, ?, ?)", (kind, at_ms, text))
            return int(row.lastrowid or 0)

        return Fact(id=await self._database.write(insert), kind=kind, at_ms=at_ms, fields=dict(fields))

    async def note(self, kind: str, fields: Mapping[str, Scalar]) -> None:
        """:meth:`append` for what the node can do without: a full disk costs the fact and a line in the log."""
        try:
            await self.append(kind, fields)
        except OwnerError as error:
            structlog.get_logger().warning("fact_not_kept", kind=kind, code=error.code)

    async def newest(self, n: int) -> tuple[Fact, ...]:
        """The last ``n`` facts, newest first."""

        def select(connection: Connection) -> list[tuple[int, str, int, str]]:
            query = "SELECT id, kind, at_ms, fields FROM fact ORDER BY id DESC LIMIT ?"
            return connection.execute(query, (max(n, 0),)).fetchall()

        rows = await self._database.read(select)
        return tuple(Fact(id=i, kind=kind, at_ms=at, fields=msgspec.json.decode(text)) for i, kind, at, text in rows)


def check(kind: str, fields: Mapping[str, object]) -> None:
    """Raise InternalFault unless ``fields`` are those of ``kind``."""
    declared = KINDS.get(kind)
    if declared is None:
        raise InternalFault(f"There is no fact of the kind {kind!r}.")
    if declared.keys() != fields.keys():
        odd = ", ".join(sorted(declared.keys() ^ fields.keys()))
        raise InternalFault(f"A fact {kind} has the fields {', '.join(declared)}; these differ: {odd}.")
    for name, value in fields.items():
        if not declared[name].admits(value):
            raise InternalFault(f"The field {name} of a fact {kind} is not a {declared[name].__name__.lower()}.")
