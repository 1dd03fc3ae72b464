"""The only door to SQLite: one writer, several readers, and what was acknowledged stays.

:func:`open_threaded` is what a node uses: a file, WAL, ``synchronous=FULL``, SQLite's calls in threads.
:func:`open_inline` runs the same calls on the spot, without threads, so that a test can run on a virtual clock. Both
give a :class:`Database` and pass the same contract suite.

A function handed to ``read`` or ``write`` gets a connection inside a transaction, runs to its end (it is never
cancelled half-way), and returns plain values, not cursors.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio

from meshnode.errors import Conflict, DamagedDatabase, DiskFull, HomeInUse, HomeUnusable, InternalFault, MeshnodeError
from meshnode.storage import migrations

T = TypeVar("T")
Connection = sqlite3.Connection

BUSY_TIMEOUT_S: Final = 5.0
"""How long to wait for another program (a backup, say) that holds the file's lock."""
READERS: Final = 2
JOURNAL_LIMIT: Final = 64 << 20
"""Bytes the write-ahead log is cut back to after a checkpoint."""


class Database(Protocol):
    """Transactions on one SQLite database. Errors of SQLite come out as meshnode's (see :func:`translate`)."""

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on a snapshot of what is committed; writing in it is refused."""

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` alone in a transaction; when this returns, it is on the disk.

        If ``fn`` raises, nothing of it remains. Writes run one after another. A cancelled caller either gets its
        write whole or not at all.
        """


@contextlib.asynccontextmanager
async def open_threaded(path: Path) -> AsyncIterator[Database]:
    """Open the database file at ``path`` (made with mode 0600 if missing), checked and brought up to date.

    Raises DamagedDatabase, DiskFull, HomeUnusable or HomeInUse.
    """
    writer = await trio.to_thread.run_sync(_open_checked, path)
    readers: list[Connection] = []
    try:
        for _ in range(READERS):
            readers.append(await trio.to_thread.run_sync(_open_reader, path))
        yield _Threaded(writer, readers)
    finally:
        with trio.CancelScope(shield=True):
            for connection in [*readers, writer]:
                await trio.to_thread.run_sync(connection.close)


@contextlib.asynccontextmanager
async def open_inline(path: Path | None = None) -> AsyncIterator[Database]:
    """Open a database without threads, in memory (``None``) or at ``path``; raises as :func:`open_threaded`."""
    await trio.lowlevel.checkpoint()
    connection = _open_checked(path)
    try:
        yield _Inline(connection)
    finally:
        connection.close()


class _Threaded:
    """SQLite in worker threads: one at a time for the writer, one per reading connection."""

    def __init__(self, writer: Connection, readers: list[Connection]) -> None:
        self._writer = writer
        self._writing = trio.CapacityLimiter(1)
        self._readers = readers
        self._reading = trio.CapacityLimiter(len(readers))

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return await trio.to_thread.run_sync(self._read, fn, limiter=self._reading)

    def _read(self, fn: Callable[[Connection], T]) -> T:
        connection = self._readers.pop()  # never empty: the limiter counts them
        try:
            return _snapshot(connection, fn)
        finally:
            self._readers.append(connection)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        return await trio.to_thread.run_sync(_transaction, self._writer, fn, limiter=self._writing)


class _Inline:
    """SQLite on the spot; serialised because nothing else runs meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, fn: Callable[[Connection], T]) -> T:
        await trio.lowlevel.checkpoint()
        with _translated():
            self._connection.execute("PRAGMA query_only = ON")
            try:
                return _snapshot(self._connection, fn)
            finally:
                self._connection.execute("PRAGMA query_only = OFF")

    async def write(self, fn: Callable[[Connection], T]) -> T:
        await trio.lowlevel.checkpoint()
        return _transaction(self._connection, fn)


def _transaction(connection: Connection, fn: Callable[[Connection], T]) -> T:
    with _translated():
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = fn(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


def _snapshot(connection: Connection, fn: Callable[[Connection], T]) -> T:
    with _translated():
        connection.execute("BEGIN")
        try:
            return fn(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


# --- opening --------------------------------------------------------------------------------------


def _open_checked(path: Path | None) -> Connection:
    with _translated(path):
        if path is not None:
            _make_private(path)
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
            _quick_check(connection, path)
            migrations.apply(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _open_reader(path: Path) -> Connection:
    with _translated(path):
        connection = _connect(path)
        connection.execute("PRAGMA query_only = ON")
        return connection


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HomeUnusable(
            f"{path} cannot be opened for writing: {error.strerror}.",
            hint="Give this user read and write permission there, or choose another --home.",
        )


def _connect(path: Path | None) -> Connection:
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _quick_check(connection: Connection, path: Path | None) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, str(verdict))


# --- errors ---------------------------------------------------------------------------------------


def _damaged(path: Path | None, detail: str) -> DamagedDatabase:
    if path is None:
        return DamagedDatabase(f"The database is damaged: {detail}.", hint="Stop the node and start it again.")
    return DamagedDatabase(
        f"The database {path} is damaged: {detail}.",
        hint=f"Keep it and start with an empty one: mv {path} {path}.damaged (keys and models are not in it).",
    )


def _disk_full(path: Path | None, detail: str) -> DiskFull:
    place = path or "the home"
    return DiskFull(f"No space is left for the database: {detail}.", hint=f"Free space where {place} lies.")


def _unusable(path: Path | None, detail: str) -> HomeUnusable:
    return HomeUnusable(
        f"The database {path or ''} cannot be written: {detail}.".replace("  ", " "),
        hint="Mount the disk writable and give this user permission there, or choose another --home.",
    )


def _busy(path: Path | None, detail: str) -> HomeInUse:
    return HomeInUse(f"Another program holds the database {path or ''}: {detail}.", hint="End that program.")


def _constraint(_path: Path | None, detail: str) -> Conflict:
    return Conflict(f"The database refused a value: {detail}.")


_TRANSLATIONS: Final[dict[int, Callable[[Path | None, str], MeshnodeError]]] = {
    sqlite3.SQLITE_CORRUPT: _damaged,
    sqlite3.SQLITE_NOTADB: _damaged,
    sqlite3.SQLITE_FORMAT: _damaged,
    sqlite3.SQLITE_FULL: _disk_full,
    sqlite3.SQLITE_IOERR_SHMSIZE: _disk_full,
    sqlite3.SQLITE_READONLY: _unusable,
    sqlite3.SQLITE_CANTOPEN: _unusable,
    sqlite3.SQLITE_PERM: _unusable,
    sqlite3.SQLITE_IOERR: _unusable,
    sqlite3.SQLITE_BUSY: _busy,
    sqlite3.SQLITE_LOCKED: _busy,
    sqlite3.SQLITE_CONSTRAINT: _constraint,
}
"""By extended result code, else by primary one (its low byte); https://sqlite.org/rescode.html."""


def translate(error: sqlite3.Error, path: Path | None = None) -> MeshnodeError:
    """What a SQLite error is in meshnode's tree; one that no circumstance explains is a defect, InternalFault."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        build = _TRANSLATIONS.get(code) or _TRANSLATIONS.get(code & 0xFF)
        if build is not None:
            return build(path, str(error))
    return InternalFault(f"The database refused a statement: {error}.")


@contextlib.contextmanager
def _translated(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
