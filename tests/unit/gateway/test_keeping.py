"""What is kept is opened together, or nothing is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from meshnode.config import StoreSettings
from meshnode.domain import OWNER
from meshnode.errors import DiskFull, Forbidden, NotFound
from meshnode.gateway.batches import Creation
from meshnode.gateway.keeping import Keeping, open_keeping
from meshnode.storage.database import Connection, open_inline, open_threaded
from meshnode.storage.vault import DAY_S, Item, Vault
from tests.kit.api import Scripted, a_context
from tests.kit.batches import ScriptedWork, handed
from tests.kit.jobs import a_job


@asynccontextmanager
async def kept(home: Path, settings: StoreSettings) -> AsyncIterator[Keeping]:
    """What a home keeps."""
    desk = a_context(Scripted([]), [])
    async with (
        open_threaded(home / "meshnode.db") as database,
        open_keeping(settings, home, database, desk, entropy=os.urandom, now=lambda: 1.0) as keeping,
    ):
        yield keeping


async def test_what_was_kept_is_there_at_the_next_start_and_sealed(tmp_path: Path) -> None:
    async with kept(tmp_path, StoreSettings()) as keeping:
        await keeping.jobs.keep(a_job())
    async with kept(tmp_path, StoreSettings()) as keeping:
        assert (await keeping.jobs.job(OWNER, "job_1")).request.prompt == "hi"
        assert keeping.jobs.keeps


async def test_switched_off_nothing_is_kept_and_the_old_can_be_forgotten_with_its_key(tmp_path: Path) -> None:
    async with kept(tmp_path, StoreSettings()) as keeping:
        await keeping.jobs.keep(a_job())
    assert (tmp_path / "vault.key").exists()
    async with kept(tmp_path, StoreSettings(enabled=False)) as keeping:
        assert not keeping.jobs.keeps
        for call in (keeping.jobs.keep, keeping.jobs.submit):
            with pytest.raises(Forbidden, match=r"store\.enabled"):
                await call(a_job())
        for look in (keeping.jobs.job, keeping.jobs.cancel, keeping.jobs.delete):
            with pytest.raises(NotFound):
                await look(OWNER, "job_1")
        with pytest.raises(NotFound):
            keeping.jobs.follow(OWNER, "job_1")
        assert (await keeping.jobs.jobs(OWNER)).jobs == ()
        assert await keeping.history.clear() == {"job": 1}
    assert not (tmp_path / "vault.key").exists()


async def test_switched_off_the_old_expires_while_the_node_runs_and_a_full_disk_ends_nothing(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, start = a_context(Scripted([]), []), trio.current_time()

    def now() -> float:
        return 1.0 + trio.current_time() - start

    async with open_inline() as database:
        vault = Vault(database, bytes(32), entropy=os.urandom, now=now)
        await vault.put(Item(principal=OWNER, kind="job", id="a", data=b"x"))
        full, real = [DiskFull("no space.")], database.write

        async def write(fn: Callable[[Connection], int]) -> int:
            if full:
                raise full.pop()
            return await real(fn)

        monkeypatch.setattr(database, "write", write)
        settings = StoreSettings(enabled=False)
        async with open_keeping(settings, Path("nowhere"), database, desk, entropy=os.urandom, now=now) as keeping:
            await trio.sleep(29 * DAY_S)
            assert not full
            assert await keeping.history.counts() == {"job": 1}
            await trio.sleep(2 * DAY_S)
        assert await database.read(lambda connection: connection.execute("SELECT * FROM sealed").fetchall()) == []


async def test_switched_off_no_key_is_made(tmp_path: Path) -> None:
    async with kept(tmp_path, StoreSettings(enabled=False)) as keeping:
        assert keeping.vault is None
    assert not (tmp_path / "vault.key").exists()


async def test_what_was_cleared_is_gone_and_the_key_changed(tmp_path: Path) -> None:
    async with kept(tmp_path, StoreSettings()) as keeping:
        await keeping.jobs.keep(a_job())
        before = (tmp_path / "vault.key").read_bytes()
        assert await keeping.history.clear() == {"job": 1}
        assert (tmp_path / "vault.key").read_bytes() != before
        await keeping.jobs.keep(a_job("job_2"))
    async with kept(tmp_path, StoreSettings()) as keeping:
        assert (await keeping.jobs.job(OWNER, "job_2")).id == "job_2"


async def test_files_and_batches_are_kept_with_the_rest_and_cleared_with_it(tmp_path: Path) -> None:
    async with kept(tmp_path, StoreSettings()) as keeping:
        assert keeping.files is not None
        assert keeping.batches is not None
        file = await handed(keeping.files, b"a")
        await keeping.batches.create(OWNER, Creation(file.id, "/v1/chat/completions", 3600))
    async with kept(tmp_path, StoreSettings()) as keeping:
        assert keeping.files is not None
        assert keeping.batches is not None
        assert await keeping.files.file(OWNER, file.id) == file
        assert keeping.batches.standing().batches == 1
        await keeping.history.clear()
        assert await keeping.history.counts() == {}
        async with trio.open_nursery() as nursery:
            draining = trio.Event()
            nursery.start_soon(keeping.batches.run, ScriptedWork(), draining)
            while keeping.batches.standing().batches:
                await trio.lowlevel.checkpoint()
            draining.set()
    async with kept(tmp_path, StoreSettings(enabled=False)) as keeping:
        assert (keeping.files, keeping.batches) == (None, None)
