"""What the vault does on every database: threaded or inline, on disk or in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from meshnode.domain import OWNER, CallerId
from meshnode.errors import NotFound
from meshnode.storage.database import Connection, Database, open_inline, open_threaded
from meshnode.storage.vault import DAY_S, MOST_READ, Item, Page, Ref, Vault

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
GUEST = CallerId("key:0123456789abcdef")
Opener = Callable[[], AbstractAsyncContextManager[Database]]


class Wall:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def an_item(id_: str, data: bytes = b"said", *, principal: CallerId = OWNER, kind: str = "job") -> Item:
    return Item(principal=principal, kind=kind, id=id_, data=data)


def ids(page: Page) -> list[str]:
    return [item.id for item in page.items]


@pytest.fixture(params=["threaded", "inline-file", "inline-memory"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    openers: dict[str, Opener] = {
        "threaded": lambda: open_threaded(tmp_path / "meshnode.db"),
        "inline-file": lambda: open_inline(tmp_path / "meshnode.db"),
        "inline-memory": lambda: open_inline(),
    }
    async with openers[request.param]() as opened:
        yield opened


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def vault(database: Database, wall: Wall) -> Vault:
    return a_vault(database, wall)


def a_vault(database: Database, wall: Wall, key: bytes = KEY) -> Vault:
    return Vault(database, key, entropy=os.urandom, now=wall, new_key=lambda: OTHER_KEY)


async def test_what_is_put_is_had_again_with_its_times(vault: Vault, wall: Wall) -> None:
    await vault.put(an_item("a", b"\x00said"))
    found = await vault.get(OWNER, "job", "a")
    assert found.data == b"\x00said"
    assert (found.created, found.expires) == (wall.now, wall.now + 30 * DAY_S)
    assert not found.unfinished


async def test_a_later_one_takes_the_place_and_keeps_order_and_birth(vault: Vault, wall: Wall) -> None:
    await vault.put(an_item("a"), an_item("b"))
    wall.now += 5
    await vault.put(an_item("a", b"more"))
    found = await vault.get(OWNER, "job", "a")
    assert (found.data, found.created, found.expires) == (b"more", wall.now - 5, wall.now + 30 * DAY_S)
    assert ids(await vault.page(OWNER, "job")) == ["a", "b"]


async def test_only_one_that_is_there_is_replaced(vault: Vault) -> None:
    assert not await vault.replace(an_item("a"))
    await vault.put(an_item("b"))
    assert await vault.replace(an_item("b", b"new"))
    assert (await vault.get(OWNER, "job", "b")).data == b"new"
    assert await vault.counts() == {"job": 1}


async def test_what_goes_with_one_is_kept_where_that_one_is_there(vault: Vault) -> None:
    assert not await vault.replace(an_item("a"), an_item("b"))
    assert await vault.counts() == {}
    await vault.put(an_item("a"))
    assert await vault.replace(an_item("a", b"new"), an_item("b"), an_item("c", kind="file"))
    assert (await vault.get(OWNER, "job", "a")).data == b"new"
    assert await vault.counts() == {"file": 1, "job": 2}


async def test_anothers_object_is_not_there(vault: Vault) -> None:
    await vault.put(an_item("a", b"the owner's"), an_item("a", b"the guest's", principal=GUEST))
    assert (await vault.get(GUEST, "job", "a")).data == b"the guest's"
    await vault.delete(GUEST, "job", "a")
    with pytest.raises(NotFound):
        await vault.get(GUEST, "job", "a")
    with pytest.raises(NotFound):
        await vault.delete(GUEST, "job", "a")
    with pytest.raises(NotFound):
        await vault.page(GUEST, "job", after="a")
    assert ids(await vault.page(GUEST, "job")) == []
    assert (await vault.get(OWNER, "job", "a")).data == b"the owner's"


async def test_an_absent_and_anothers_object_are_told_the_same(vault: Vault) -> None:
    await vault.put(an_item("a"))
    said = []
    for id_ in ("a", "b"):
        with pytest.raises(NotFound) as caught:
            await vault.get(GUEST, "job", id_)
        said.append(str(caught.value).replace(repr(id_), "?"))
    assert said[0] == said[1]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_are_in_order_whole_and_without_repetition(vault: Vault, newest_first: bool) -> None:
    names = [f"i{number}" for number in range(7)]
    await vault.put(*map(an_item, names), an_item("else", kind="file"))
    seen: list[str] = []
    last: str | None = None
    while True:
        page = await vault.page(OWNER, "job", after=last, limit=3, newest_first=newest_first)
        last = page.last
        seen += ids(page)
        if not page.more:
            break
    assert seen == (names[::-1] if newest_first else names)


async def test_parts_are_listed_apart_and_go_with_their_whole(vault: Vault) -> None:
    part = msgspec.structs.replace(an_item("a1", kind="line"), part_of="a")
    other = msgspec.structs.replace(an_item("b1", kind="line"), part_of="b")
    await vault.put(an_item("a"), an_item("b"), part, other)
    assert ids(await vault.page(OWNER, "line", part_of="a")) == ["a1"]
    await vault.delete(OWNER, "job", "a")
    assert await vault.counts() == {"job": 1, "line": 1}
    assert ids(await vault.page(OWNER, "line", part_of="b")) == ["b1"]


async def test_the_unfinished_are_told_by_whose_they_are_oldest_first(vault: Vault) -> None:
    todo = [msgspec.structs.replace(an_item(name), unfinished=True) for name in ("a", "b")]
    await vault.put(*todo, msgspec.structs.replace(todo[0], principal=GUEST), an_item("done"))
    assert await vault.unfinished("job") == (Ref(OWNER, "a"), Ref(OWNER, "b"), Ref(GUEST, "a"))
    await vault.put(an_item("a"))
    assert await vault.unfinished("job") == (Ref(OWNER, "b"), Ref(GUEST, "a"))
    assert await vault.unfinished("file") == ()


async def test_what_had_its_time_is_not_there_and_then_deleted(vault: Vault, wall: Wall) -> None:
    await vault.put(msgspec.structs.replace(an_item("old"), unfinished=True))
    wall.now += DAY_S
    await vault.put(an_item("young"))
    wall.now += 29 * DAY_S
    with pytest.raises(NotFound):
        await vault.get(OWNER, "job", "old")
    assert ids(await vault.page(OWNER, "job")) == ["young"]
    assert await vault.counts() == {"job": 1}
    assert await vault.unfinished("job") == ()
    assert await vault.expire() == 1
    assert await vault.clear() == {"job": 1}


async def test_all_can_be_thrown_away_and_are_counted(vault: Vault) -> None:
    await vault.put(an_item("a"), an_item("b", principal=GUEST), an_item("c", kind="session"))
    assert await vault.counts() == {"job": 2, "session": 1}
    assert await vault.clear() == {"job": 2, "session": 1}
    assert await vault.counts() == {}


async def test_what_was_thrown_away_does_not_open_where_a_copy_of_it_is_left(
    database: Database, vault: Vault, wall: Wall
) -> None:
    await vault.put(an_item("a"))
    await database.write(lambda connection: connection.execute("CREATE TABLE copy AS SELECT * FROM sealed"))
    await vault.clear()
    await database.write(lambda connection: connection.execute("INSERT INTO sealed SELECT * FROM copy"))
    with pytest.raises(NotFound, match="lost"):
        await vault.get(OWNER, "job", "a")
    await vault.put(an_item("b"))
    assert (await a_vault(database, wall, OTHER_KEY).get(OWNER, "job", "b")).data == b"said"


def _swap(connection: Connection) -> None:
    rows = connection.execute("SELECT seq, blob FROM sealed ORDER BY seq").fetchall()
    for (seq, _), (_, blob) in zip(rows, reversed(rows), strict=True):
        connection.execute("UPDATE sealed SET blob = ? WHERE seq = ?", (blob, seq))


def _set(column: str, value: object) -> Callable[[Connection], None]:
    def update(connection: Connection) -> None:
        connection.execute(f"UPDATE sealed SET {column} = ?", (value,))

    return update


DAMAGE = [
    ("a", _set("blob", b"")),
    ("a", _set("blob", b"\x01short")),
    ("a", _set("blob", b"\x02" + bytes(60))),
    ("a", _set("blob", b"\x01" + bytes(60))),
    ("a", _set("part_of", "z")),
    ("z", _set("id", "z")),
]


@pytest.mark.parametrize(("id_", "damage"), DAMAGE, ids=range(len(DAMAGE)))
async def test_a_damaged_row_is_one_lost_object(
    database: Database, vault: Vault, id_: str, damage: Callable[[Connection], None]
) -> None:
    await vault.put(an_item("a"))
    await database.write(damage)
    await vault.put(an_item("b"))
    with pytest.raises(NotFound, match="lost"):
        await vault.get(OWNER, "job", id_)
    assert ids(await vault.page(OWNER, "job")) == ["b"]
    await vault.delete(OWNER, "job", id_)


async def test_a_page_of_large_objects_ends_early_and_none_is_left_out(vault: Vault) -> None:
    large = bytes(MOST_READ // 2)
    for name in "abcde":
        await vault.put(an_item(name, large))
    first = await vault.page(OWNER, "job", limit=4)
    assert (ids(first), first.more, first.last) == (["a", "b"], True, "b")
    rest = await vault.page(OWNER, "job", after="d", limit=4)
    assert (ids(rest), rest.more) == (["e"], False)


async def test_a_page_of_lost_objects_still_says_where_the_next_begins(database: Database, vault: Vault) -> None:
    await vault.put(an_item("a"))
    await database.write(_set("blob", b""))
    await vault.put(an_item("b"))
    assert await vault.page(OWNER, "job", limit=1) == Page((), more=True, last="a")


async def test_rows_that_were_swapped_do_not_open(database: Database, vault: Vault) -> None:
    await vault.put(an_item("a"), an_item("a", principal=GUEST))
    await database.write(_swap)
    for who in (OWNER, GUEST):
        with pytest.raises(NotFound, match="lost"):
            await vault.get(who, "job", "a")


async def test_with_another_key_the_old_is_lost_and_the_new_is_kept(database: Database, wall: Wall) -> None:
    await a_vault(database, wall).put(an_item("a"))
    other = a_vault(database, wall, OTHER_KEY)
    await other.put(an_item("b"))
    with pytest.raises(NotFound, match="lost"):
        await other.get(OWNER, "job", "a")
    assert ids(await other.page(OWNER, "job")) == ["b"]


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


async def test_nothing_of_the_content_stands_in_the_files(tmp_path: Path, wall: Wall) -> None:
    canary = b"canary-6f1d"
    async with open_threaded(tmp_path / "meshnode.db") as database:
        await a_vault(database, wall).put(an_item("a", canary * 500))
        files = contents(tmp_path)
        assert any(b"job" in data for data in files), "the row is in a file"
        assert not any(canary in data for data in files)
