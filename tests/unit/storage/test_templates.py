"""Prompt templates by name and version."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.domain import Message, Role, TextPart
from meshnode.errors import Conflict, NotFound
from meshnode.storage import templates
from meshnode.storage.database import Connection, open_inline, open_threaded
from meshnode.storage.templates import Templates


def said(text: str) -> tuple[Message, ...]:
    return (Message(role=Role.USER, parts=(TextPart(text),)),)


async def test_versions_count_up_and_stay(tmp_path: Path) -> None:
    async with open_threaded(tmp_path / "x.db") as database:
        kept = Templates(database, lambda: 7.9)
        first = await kept.add("greet", said("Hi {{who}}"))
        second = await kept.add("greet", said("Hello {{who}}"))
        assert (first.version, second.version, second.created) == (1, 2, 7)
        assert await kept.get("greet") == second
        assert await kept.get("greet", 1) == first
        await kept.add("ask", said("What?"))
        assert [(one.id, one.version) for one in await kept.newest()] == [("ask", 1), ("greet", 2)]
    async with open_threaded(tmp_path / "x.db") as database:
        assert await Templates(database, lambda: 8.0).get("greet") == second


async def test_a_version_is_never_given_twice() -> None:
    async with open_inline() as database:
        kept = Templates(database, lambda: 0.0)
        await kept.add("greet", said("a"))
        await kept.add("greet", said("b"))
        assert await kept.delete("greet") == 2
        for version in (None, 1):
            with pytest.raises(NotFound, match="greet"):
                await kept.get("greet", version)
        with pytest.raises(NotFound):
            await kept.delete("greet")
        assert await kept.newest() == ()
        assert (await kept.add("greet", said("c"))).version == 3


async def test_a_version_is_never_changed() -> None:
    async with open_inline() as database:
        await Templates(database, lambda: 0.0).add("greet", said("a"))

        def change(connection: Connection) -> None:
            connection.execute("UPDATE prompt_template SET messages = '[]'")

        with pytest.raises(Conflict, match="never changed"):
            await database.write(change)


async def test_versions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_VERSIONS", 2)
    async with open_inline() as database:
        kept = Templates(database, lambda: 0.0)
        await kept.add("greet", said("a"))
        await kept.add("greet", said("b"))
        with pytest.raises(Conflict, match="2 versions"):
            await kept.add("greet", said("c"))
