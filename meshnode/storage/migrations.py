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
    Migration(
        2,
        "channels and what is remembered",
        (
            """CREATE TABLE channel (
                id INTEGER PRIMARY KEY,
                role TEXT NOT NULL CHECK (role IN ('consumer', 'provider')),
                consumer BLOB NOT NULL CHECK (typeof(consumer) = 'blob' AND length(consumer) = 32),
                provider BLOB NOT NULL CHECK (typeof(provider) = 'blob' AND length(provider) = 32),
                chan INTEGER NOT NULL CHECK (typeof(chan) = 'integer' AND chan BETWEEN 0 AND 4294967295),
                seq INTEGER NOT NULL CHECK (typeof(seq) = 'integer' AND seq > 0),
                cum_uc INTEGER NOT NULL CHECK (typeof(cum_uc) = 'integer' AND cum_uc >= 0),
                cum_in INTEGER NOT NULL CHECK (typeof(cum_in) = 'integer' AND cum_in >= 0),
                cum_out INTEGER NOT NULL CHECK (typeof(cum_out) = 'integer' AND cum_out >= 0),
                n_req INTEGER NOT NULL CHECK (typeof(n_req) = 'integer' AND n_req >= 0),
                body BLOB NOT NULL CHECK (typeof(body) = 'blob' AND length(body) <= 512),
                sig_c BLOB NOT NULL CHECK (typeof(sig_c) = 'blob' AND length(sig_c) = 64),
                sig_p BLOB CHECK (sig_p IS NULL OR (typeof(sig_p) = 'blob' AND length(sig_p) = 64)),
                confirmed BLOB CHECK (confirmed IS NULL OR (typeof(confirmed) = 'blob' AND length(confirmed) <= 512)),
                confirmed_seq INTEGER NOT NULL DEFAULT 0
                    CHECK (typeof(confirmed_seq) = 'integer' AND confirmed_seq BETWEEN 0 AND seq),
                confirmed_uc INTEGER NOT NULL DEFAULT 0
                    CHECK (typeof(confirmed_uc) = 'integer' AND confirmed_uc BETWEEN 0 AND cum_uc),
                peer TEXT NOT NULL CHECK (typeof(peer) = 'text' AND length(peer) <= 200),
                UNIQUE (role, consumer, provider, chan),
                CHECK (consumer <> provider),
                CHECK ((confirmed IS NULL) = (confirmed_seq = 0)),
                CHECK ((sig_p IS NULL) = (confirmed_seq < seq))
            )""",
            """CREATE TRIGGER channel_never_goes_back BEFORE UPDATE ON channel
                WHEN NEW.seq < OLD.seq OR NEW.cum_uc < OLD.cum_uc OR NEW.cum_in < OLD.cum_in
                    OR NEW.cum_out < OLD.cum_out OR NEW.n_req < OLD.n_req
                    OR NEW.confirmed_seq < OLD.confirmed_seq OR NEW.confirmed_uc < OLD.confirmed_uc
                    OR (NEW.seq = OLD.seq AND NEW.body <> OLD.body)
                    OR NEW.id <> OLD.id OR NEW.role <> OLD.role OR NEW.consumer <> OLD.consumer
                    OR NEW.provider <> OLD.provider OR NEW.chan <> OLD.chan
                BEGIN SELECT RAISE(ABORT, 'a channel never goes back'); END""",
            """CREATE TRIGGER channel_is_never_deleted BEFORE DELETE ON channel
                BEGIN SELECT RAISE(ABORT, 'a channel is never deleted'); END""",
            """CREATE TABLE joined_address (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                address TEXT NOT NULL UNIQUE CHECK (typeof(address) = 'text')
            )""",
            """CREATE TABLE peer_address (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                peer TEXT NOT NULL UNIQUE CHECK (typeof(peer) = 'text'),
                at_s INTEGER NOT NULL CHECK (typeof(at_s) = 'integer'),
                addresses TEXT NOT NULL CHECK (typeof(addresses) = 'text')
            )""",
            """CREATE TABLE serve_override (
                model TEXT PRIMARY KEY COLLATE NOCASE CHECK (typeof(model) = 'text'),
                served INTEGER NOT NULL CHECK (served IN (0, 1))
            ) WITHOUT ROWID""",
        ),
    ),
    Migration(
        3,
        "sealed objects",
        (
            """CREATE TABLE sealed (
                seq INTEGER PRIMARY KEY AUTOINCREMENT,
                principal TEXT NOT NULL CHECK (typeof(principal) = 'text'),
                kind TEXT NOT NULL CHECK (typeof(kind) = 'text'),
                id TEXT NOT NULL CHECK (typeof(id) = 'text'),
                part_of TEXT NOT NULL CHECK (typeof(part_of) = 'text'),
                created INTEGER NOT NULL CHECK (typeof(created) = 'integer'),
                expires INTEGER NOT NULL CHECK (typeof(expires) = 'integer'),
                unfinished INTEGER NOT NULL CHECK (unfinished IN (0, 1)),
                blob BLOB NOT NULL CHECK (typeof(blob) = 'blob'),
                UNIQUE (principal, kind, id)
            )""",
            "CREATE INDEX sealed_order ON sealed (principal, kind, part_of, seq)",
            "CREATE INDEX sealed_parts ON sealed (principal, part_of) WHERE part_of <> ''",
            "CREATE INDEX sealed_unfinished ON sealed (kind, seq) WHERE unfinished = 1",
            "CREATE INDEX sealed_expires ON sealed (expires)",
        ),
    ),
    Migration(
        4,
        "prompt templates",
        (
            """CREATE TABLE prompt_template (
                id TEXT NOT NULL CHECK (typeof(id) = 'text'),
                version INTEGER NOT NULL CHECK (typeof(version) = 'integer' AND version > 0),
                created INTEGER NOT NULL CHECK (typeof(created) = 'integer'),
                messages TEXT CHECK (messages IS NULL OR typeof(messages) = 'text'),
                PRIMARY KEY (id, version)
            ) WITHOUT ROWID""",
            """CREATE TRIGGER prompt_template_is_never_changed BEFORE UPDATE ON prompt_template
                WHEN NEW.messages IS NOT NULL OR NEW.id <> OLD.id OR NEW.version <> OLD.version
                BEGIN SELECT RAISE(ABORT, 'a version of a template is never changed'); END""",
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
