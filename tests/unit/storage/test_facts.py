"""The fact log: appended, in order, and never a place for prose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import Conflict, DiskFull, InternalFault
from meshnode.storage.database import Connection, Database, open_inline
from meshnode.storage.facts import KINDS, Count, Facts, Name, Seconds, check

T = TypeVar("T")
SAMPLES: dict[object, object] = {Name: "smollm2-135m-instruct:q4_1", Count: 3, Seconds: 1.5}


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_inline() as opened:
        yield opened


@pytest.fixture
def facts(database: Database) -> Facts:
    return Facts(database, now=lambda: 1_700_000_000.25)


async def test_the_newest_come_first(facts: Facts) -> None:
    await facts.append("node_started", {"version": "0.1.0", "peer_id": "12D3KooWx"})
    await facts.append("model_added", {"model": "a:q8_0", "size": 5})
    await facts.append("node_stopped", {"reason": "sigterm", "uptime_s": 1.5})
    newest = await facts.newest(2)
    assert [fact.kind for fact in newest] == ["node_stopped", "model_added"]
    assert newest[0].fields == {"reason": "sigterm", "uptime_s": 1.5}
    assert newest[1].at_ms == 1_700_000_000_250


async def test_what_append_gives_back_is_what_is_read_later(facts: Facts) -> None:
    fact = await facts.append("model_added", {"model": "a:q8_0", "size": 1})
    assert await facts.newest(10) == (fact,)


@pytest.mark.parametrize("statement", ["UPDATE fact SET at_ms = 0", "DELETE FROM fact"])
async def test_a_fact_is_never_changed_or_deleted(database: Database, facts: Facts, statement: str) -> None:
    fact = await facts.append("model_added", {"model": "a:q8_0", "size": 1})

    def change(connection: Connection) -> None:
        connection.execute(statement)

    with pytest.raises(Conflict, match="append-only"):
        await database.write(change)
    assert await facts.newest(1) == (fact,)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("rumour", {}),
        ("model_removed", {}),
        ("model_removed", {"model": "a:q8_0", "sha256": "ab", "note": "x"}),
        ("model_removed", {"model": "please write a poem about rain"}),
        ("model_removed", {"model": "x" * 201}),
        ("model_removed", {"model": ["a"]}),
        ("model_added", {"model": "a", "size": True}),
        ("model_added", {"model": "a", "size": -1}),
        ("node_stopped", {"reason": "signal", "uptime_s": float("nan")}),
    ],
)
async def test_an_undeclared_fact_is_refused_and_its_value_not_repeated(
    facts: Facts, kind: str, fields: dict[str, str]
) -> None:
    with pytest.raises(InternalFault) as caught:
        await facts.append(kind, fields)
    assert "poem" not in str(caught.value)
    assert await facts.newest(1) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written(kind: str) -> None:
    check(kind, {name: SAMPLES[declared] for name, declared in KINDS[kind].items()})


@given(st.text(min_size=1).filter(lambda text: any(letter.isspace() for letter in text)))
@pytest.mark.parametrize("admits", [Name.admits, Count.admits, Seconds.admits])
def test_no_field_takes_text_with_blanks(admits: Callable[[object], bool], text: str) -> None:
    assert not admits(text)


async def test_a_noted_fact_is_kept_and_a_fact_that_cannot_be_kept_harms_nobody() -> None:
    async with open_inline() as database:
        facts = Facts(database, lambda: 1.0)
        await facts.note("model_removed", {"model": "a"})
        assert [fact.kind for fact in await facts.newest(1)] == ["model_removed"]
    await Facts(_FullDisk(), lambda: 1.0).note("model_removed", {"model": "a"})


class _FullDisk:
    """A database on a disk without room."""

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Never works."""
        raise DiskFull("no room.")

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Never works."""
        raise DiskFull("no room.")
