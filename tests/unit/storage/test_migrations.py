"""The schema's steps: in order, once, each with a copy kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from meshnode.errors import DamagedDatabase
from meshnode.storage.migrations import MIGRATIONS, Migration, apply, version_of

FIRST = Migration(1, "box", ("CREATE TABLE box (item TEXT)", "INSERT INTO box VALUES ('old')"))
SECOND = Migration(2, "label", ("ALTER TABLE box ADD COLUMN label TEXT", "UPDATE box SET label = upper(item)"))
BROKEN = Migration(3, "broken", ("INSERT INTO box VALUES ('half', 'done')", "NONSENSE"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box.db"


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def rows(path: Path, query: str = "SELECT * FROM box") -> list[tuple[object, ...]]:
    connection = opened(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def migrate(path: Path, *steps: Migration) -> None:
    connection = opened(path)
    try:
        apply(connection, path, steps)
    finally:
        connection.close()


def test_the_migrations_of_the_package_are_numbered_from_one_without_gaps() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_an_empty_file_takes_every_step_and_needs_no_copy_of_nothing(path: Path) -> None:
    migrate(path, FIRST)
    assert rows(path) == [("old",)]
    assert [each.name for each in path.parent.iterdir()] == ["box.db"]


def test_a_step_that_was_taken_is_not_taken_again(path: Path) -> None:
    migrate(path, FIRST)
    migrate(path, FIRST)
    assert rows(path) == [("old",)]


def test_before_a_step_on_data_a_private_copy_is_kept(path: Path) -> None:
    migrate(path, FIRST)
    migrate(path, FIRST, SECOND)
    copy = path.with_name("box.db.before-2")
    assert rows(path) == [("old", "OLD")]
    assert rows(copy) == [("old",)]
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_step_that_fails_leaves_the_data_and_the_version_as_they_were(path: Path) -> None:
    migrate(path, FIRST, SECOND)
    with pytest.raises(sqlite3.OperationalError):
        migrate(path, FIRST, SECOND, BROKEN)
    assert rows(path) == [("old", "OLD")]
    assert rows(path, "PRAGMA user_version") == [(2,)]


def test_a_copy_left_half_made_by_a_crash_is_made_again(path: Path) -> None:
    migrate(path, FIRST)
    path.with_name("box.db.before-2.part").write_bytes(b"half")
    migrate(path, FIRST, SECOND)
    assert rows(path.with_name("box.db.before-2")) == [("old",)]
    assert not path.with_name("box.db.before-2.part").exists()


def test_a_file_of_a_newer_version_is_refused_by_name_and_left_alone(path: Path) -> None:
    migrate(path, FIRST, SECOND)
    with pytest.raises(DamagedDatabase, match=r"box\.db was written by a newer meshnode"):
        migrate(path, FIRST)
    assert rows(path) == [("old", "OLD")]


def test_in_memory_there_is_nothing_to_copy() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, None, (FIRST, SECOND))
    assert version_of(connection) == 2
    connection.close()
