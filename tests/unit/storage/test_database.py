"""Opening a database file: private, checked, and refused in words when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio.testing

from meshnode.errors import DamagedDatabase, DiskFull, HomeInUse, HomeUnusable, InternalFault, MeshnodeError
from meshnode.storage.database import Connection, Database, open_inline, open_threaded, translate

Opener = Callable[[Path], AbstractAsyncContextManager[Database]]
both = pytest.mark.parametrize("open_database", [open_threaded, open_inline])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meshnode.db"


def _fill(connection: Connection) -> None:
    connection.execute("CREATE TABLE filler (data BLOB)")
    connection.execute("INSERT INTO filler VALUES (randomblob(200000))")


def _pragma(name: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]


async def refused(open_database: Opener, path: Path, kind: type[MeshnodeError]) -> str:
    with pytest.raises(kind) as caught:
        async with open_database(path):
            pass
    return str(caught.value)


@both
async def test_a_new_file_is_the_owners_alone_and_so_is_its_log(open_database: Opener, path: Path) -> None:
    async with open_database(path) as database:
        await database.write(_fill)
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file


@both
async def test_what_is_acknowledged_is_synced_and_references_hold(open_database: Opener, path: Path) -> None:
    async with open_database(path) as database:
        assert await database.write(_pragma("journal_mode")) == "wal"
        assert await database.write(_pragma("synchronous")) == 2  # FULL
        assert await database.read(_pragma("foreign_keys")) == 1


@both
async def test_what_was_written_is_there_when_opened_again(open_database: Opener, path: Path) -> None:
    async with open_database(path) as database:
        await database.write(_fill)
    async with open_database(path) as database:
        assert await database.read(lambda c: c.execute("SELECT count(*) FROM filler").fetchone()[0]) == 1


@both
async def test_a_damaged_page_is_found_at_the_start_and_the_file_kept(open_database: Opener, path: Path) -> None:
    async with open_database(path) as database:
        await database.write(_fill)
        await database.write(lambda c: c.execute("CREATE INDEX size ON filler (length(data))") and None)
    data = _scribble(path)
    said = await refused(open_database, path, DamagedDatabase)
    assert str(path) in said
    assert "mv " in said
    assert _bytes(path) == data


def _scribble(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[4096:8192] = os.urandom(4096)
    path.write_bytes(data)
    return bytes(data)


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def nonsense(path: Path) -> Path:
    path.write_bytes(b"not a database at all" * 400)
    return path


@both
async def test_a_file_that_is_no_database_is_named(open_database: Opener, nonsense: Path) -> None:
    assert "mv " in await refused(open_database, nonsense, DamagedDatabase)


@both
async def test_a_file_of_a_newer_version_is_refused(open_database: Opener, path: Path) -> None:
    async with open_database(path) as database:
        await database.write(lambda c: c.execute("PRAGMA user_version = 999") and None)
    assert "newer meshnode" in await refused(open_database, path, DamagedDatabase)


@both
async def test_a_folder_in_its_place_is_named(open_database: Opener, tmp_path: Path) -> None:
    assert str(tmp_path) in await refused(open_database, tmp_path, HomeUnusable)


@both
async def test_another_program_that_holds_the_file_is_named(
    open_database: Opener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.storage.database.BUSY_TIMEOUT_S", 0.01)
    async with open_database(path) as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(HomeInUse):
                await database.write(_fill)
        finally:
            other.close()
        await database.write(_fill)


async def test_the_inline_form_needs_no_threads_and_so_runs_on_a_virtual_clock(
    autojump_clock: trio.testing.MockClock, path: Path
) -> None:
    async with open_inline(path) as database:
        await database.write(_fill)
        before = trio.current_time()
        await trio.sleep(3600)
        assert await database.read(lambda c: c.execute("SELECT count(*) FROM filler").fetchone()[0]) == 1
        assert trio.current_time() - before == 3600


def test_an_error_without_a_known_cause_is_a_defect() -> None:
    assert isinstance(translate(sqlite3.ProgrammingError("closed")), InternalFault)


# --- a full disk and a read-only one ----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    (disk / "ballast").write_bytes(b"\0" * 300_000)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM fact").fetchone()[0])


def _fact(connection: Connection) -> None:
    connection.execute("INSERT INTO fact (kind, at_ms, fields) VALUES ('filler', 0, hex(randomblob(2000)))")


@pytest.mark.root
@both
async def test_on_a_full_disk_a_write_fails_whole_and_goes_on_when_there_is_room(
    open_database: Opener, small_disk: Path
) -> None:
    acknowledged = 0

    async def write_on() -> None:
        nonlocal acknowledged
        for _ in range(1000):
            await database.write(_fact)
            acknowledged += 1

    async with open_database(small_disk / "meshnode.db") as database:
        with pytest.raises(DiskFull, match="Free space"):
            await write_on()
        assert await database.read(_count) == acknowledged > 10
        await trio.Path(small_disk / "ballast").unlink()
        await database.write(_fact)
        assert await database.read(_count) == acknowledged + 1
    async with open_database(small_disk / "meshnode.db") as database:
        assert await database.read(_count) == acknowledged + 1


@pytest.mark.root
@both
async def test_a_read_only_disk_is_named(open_database: Opener, small_disk: Path) -> None:
    async with open_database(small_disk / "meshnode.db"):
        pass
    await trio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
    said = await refused(open_database, small_disk / "meshnode.db", HomeUnusable)
    assert "read-only" in said.lower()
