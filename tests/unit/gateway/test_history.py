"""What is kept can be counted and forgotten."""

from __future__ import annotations

import os

import trio

from meshnode.domain import OWNER
from meshnode.events import Started
from meshnode.gateway.history import KeptHistory, NoHistory
from meshnode.storage.database import open_inline
from meshnode.storage.vault import Item
from tests.kit.api import Scripted
from tests.kit.jobs import a_job, open_desk


async def test_everything_is_forgotten_and_what_is_under_way_stopped_for_good() -> None:
    async with open_inline() as database, open_desk(database, Scripted([Started(5), trio.sleep_forever])) as desk:
        history = KeptHistory(desk.vault, desk.jobs.forget)
        await desk.vault.put(Item(principal=OWNER, kind="session", id="s", data=os.urandom(8)))
        await desk.jobs.submit(a_job())
        await desk.dispatcher.entered.wait()
        assert await history.counts() == {"job": 1, "session": 1}
        assert await history.clear() == {"job": 1, "session": 1}
        assert desk.dispatcher.inside == 0
        assert await history.counts() == {}


async def test_where_nothing_is_kept_there_is_nothing() -> None:
    assert await NoHistory().counts() == await NoHistory().clear() == {}
