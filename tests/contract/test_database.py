"""What every database does, threaded or inline, on disk or in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from meshnode.errors import Conflict, InternalFault, MeshnodeError
from meshnode.storage.database import Connection, Database, open_inline, open_threaded

Opener = Callable[[], AbstractAsyncContextManager[Database]]


@pytest.fixture(params=["threaded", "inline-file", "inline-memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    openers: dict[str, Opener] = {
        "threaded": lambda: open_threaded(tmp_path / "meshnode.db"),
        "inline-file": lambda: open_inline(tmp_path / "meshnode.db"),
        "inline-memory": lambda: open_inline(),
    }
    return openers[request.param]


@pytest.fixture
async def database(opener: Opener) -> AsyncIterator[Database]:
    async with opener() as opened:
        await opened.write(_table)
        yield opened


def _table(connection: Connection) -> None:
    connection.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, parent INTEGER REFERENCES entry)")


def _insert(number: int, parent: int | None = None) -> Callable[[Connection], None]:
    def insert(connection: Connection) -> None:
        connection.execute("INSERT INTO entry VALUES (?, ?)", (number, parent))

    return insert


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    await database.write(_insert(1))
    assert await database.read(_count) == 1


async def test_a_write_gives_back_what_its_function_returns(database: Database) -> None:
    assert await database.write(lambda connection: _count(connection) + 41) == 41


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def half(connection: Connection) -> None:
        _insert(1)(connection)
        raise KeyError("midway")

    with pytest.raises(KeyError):
        await database.write(half)
    assert await database.read(_count) == 0
    await database.write(_insert(1))


async def test_writes_run_one_after_another(database: Database) -> None:
    running: list[int] = []
    together: list[int] = []

    def write(connection: Connection) -> None:
        running.append(1)
        together.append(len(running))
        _insert(_count(connection) + 1)(connection)
        running.pop()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(database.write, write)
    assert set(together) == {1}
    assert await database.read(_count) == 20


async def test_a_thousand_writes_are_all_there(database: Database) -> None:
    with trio.fail_after(300):
        for number in range(1000):
            await database.write(_insert(number))
    assert await database.read(_count) == 1000


async def test_a_cancelled_write_is_whole_or_not_at_all(database: Database) -> None:
    for number in range(20):
        with trio.CancelScope() as scope:

            def pair(connection: Connection, scope: trio.CancelScope = scope, number: int = number) -> None:
                _insert(2 * number)(connection)
                _cancel(scope)
                _insert(2 * number + 1)(connection)

            await database.write(pair)
    assert await database.read(_count) == 40


def _cancel(scope: trio.CancelScope) -> None:
    """Cancel from wherever the database runs its functions: a thread, or the event loop itself."""
    try:
        trio.from_thread.run_sync(scope.cancel)
    except RuntimeError:
        scope.cancel()


async def test_a_write_of_a_caller_cancelled_before_it_does_not_happen(database: Database) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.write(_insert(1))
    assert scope.cancelled_caught
    assert await database.read(_count) == 0


async def test_readers_see_only_what_is_committed(database: Database) -> None:
    seen: list[int] = []

    async def read() -> None:
        for _ in range(30):
            seen.append(await database.read(_count))

    def pair(number: int) -> Callable[[Connection], None]:
        def insert(connection: Connection) -> None:
            _insert(number)(connection)
            _insert(number + 1)(connection)

        return insert

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        for number in range(0, 60, 2):
            await database.write(pair(number))
    assert all(count % 2 == 0 for count in seen)


async def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(MeshnodeError, match="readonly"):
        await database.read(_insert(1))
    await database.write(_insert(2))
    assert await database.read(_count) == 1


async def test_a_reference_to_nothing_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict, match="FOREIGN KEY"):
        await database.write(_insert(1, parent=99))
    assert await database.read(_count) == 0


async def test_no_error_of_sqlite_comes_out_as_it_is(database: Database) -> None:
    with pytest.raises(InternalFault) as caught:
        await database.write(lambda connection: connection.execute("SELEC"))
    assert not isinstance(caught.value, sqlite3.Error)


async def test_closing_ends_the_door(opener: Opener) -> None:
    async with opener() as database:
        await database.write(_table)
    with pytest.raises(InternalFault):
        await database.read(_count)
