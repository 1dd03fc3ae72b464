"""Numbered changes of the database's schema, applied once and in order; ``PRAGMA user_version`` holds the last one.

To change the schema, append a :class:`Migration` with the next number; never edit one that was released. Each runs in a
transaction of its own, and on a file that already held data a copy is kept beside it first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meshnode.errors import DamagedDatabase

if TYPE_CHECKING:
    from meshnode.storage.database import Connection


class Migration(NamedTuple):
    """One step of the schema: ``statements`` take it from ``number - 1`` to ``number``."""

    number: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "facts",
        (
            """CREATE TABLE fact (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                kind TEXT NOT NULL CHECK (typeof(kind) = 'text'),
                at_ms INTEGER NOT NULL CHECK (typeof(at_ms) = 'integer'),
                fields TEXT NOT NULL CHECK (typeof(fields) = 'text')
            )""",
            "CREATE INDEX fact_kind ON fact (kind, id)",
            """CREATE TRIGGER fact_is_never_changed BEFORE UPDATE ON fact
                BEGIN SELECT RAISE(ABORT, 'facts are append-only'); END""",
            """CREATE TRIGGER fact_is_never_deleted BEFORE DELETE ON fact
                BEGIN SELECT RAISE(ABORT, 'facts are append-only'); END""",
        ),
    ),
)


def version_of(connection: Connection) -> int:
    """Number of the last migration applied; 0 for a database without a schema."""
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def apply(connection: Connection, path: Path | None, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
    """Bring the schema up to date. ``path`` is where the database lies, ``None`` in memory.

    Before each step on a file with a schema, a copy ``<name>.before-<number>`` is kept beside it. Raises
    DamagedDatabase when a newer version wrote the file; what SQLite raises passes, with the step rolled back.
    """
    newest = migrations[-1].number if migrations else 0
    version = version_of(connection)
    if version > newest:
        raise DamagedDatabase(
            f"{path} was written by a newer meshnode (its schema is {version}, this one knows {newest}).",
            hint="Install that version again, or use another --home.",
        )
    for migration in migrations[version:]:
        if path is not None and migration.number > 1:
            keep_copy(connection, path, migration.number)
        _run(connection, migration)


def keep_copy(connection: Connection, path: Path, number: int) -> Path:
    """Copy the whole database to ``<path>.before-<number>``, atomically and synced; returns where."""
    copy = path.with_name(f"{path.name}.before-{number}")
    partial = copy.with_name(copy.name + ".part")
    partial.unlink(missing_ok=True)
    # Made first, empty and private: VACUUM INTO takes an empty file as it takes a missing one.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection.execute("VACUUM INTO ?", (str(partial),))
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(copy)
    return copy


def _run(connection: Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in migration.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {migration.number:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
