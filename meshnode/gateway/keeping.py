"""Everything a node keeps at rest for its users, opened together; or, where the owner wants nothing kept, nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from meshnode.config import StoreSettings
from meshnode.gateway.batches import Batches
from meshnode.gateway.feed import Desk
from meshnode.gateway.files import Files
from meshnode.gateway.history import History, KeptHistory, NoHistory
from meshnode.gateway.job import Jobs, NoJobs
from meshnode.gateway.jobs import TIDY_EVERY_S, open_jobs
from meshnode.gateway.sessions import Sessions
from meshnode.identity import drop_vault_key, new_vault_key, vault_key
from meshnode.storage.database import Database
from meshnode.storage.vault import DAY_S, Shelf, Vault


class Keeping(NamedTuple):
    """What is kept; all but the first two are ``None`` where keeping is off."""

    jobs: Jobs = NoJobs()
    history: History = NoHistory()
    vault: Vault | None = None
    files: Files | None = None
    batches: Batches | None = None
    sessions: Sessions | None = None


NOTHING_KEPT = Keeping()


@asynccontextmanager
async def open_keeping(
    settings: StoreSettings,
    home: Path,
    database: Database,
    desk: Desk,
    *,
    entropy: Callable[[int], bytes],
    now: Callable[[], float],
) -> AsyncIterator[Keeping]:
    """What is kept in the home, worked on while the block is open. Raises DamagedKey, HomeUnusable.

    Batches are carried out where :meth:`~meshnode.gateway.batches.Batches.run` is: they need the dialects.
    Switched off, the key is not made and nothing is written; what was kept before can be forgotten, and expires.
    """
    if not settings.enabled:
        shelf = Shelf(database, now, partial(drop_vault_key, home))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tidy, shelf)
            yield Keeping(history=KeptHistory(shelf))
            nursery.cancel_scope.cancel()
        return
    vault = Vault(
        database,
        vault_key(home, entropy),
        entropy=entropy,
        now=now,
        new_key=partial(new_vault_key, home, entropy),
        keep_s=settings.days * DAY_S,
    )
    files = Files(vault, entropy=entropy, now=now)
    batches = Batches(vault, files, entropy=entropy, now=now)
    await batches.take_up()
    async with open_jobs(vault, desk, now=now) as jobs:
        history = KeptHistory(vault, jobs.forget, batches.forget)
        yield Keeping(jobs, history, vault, files, batches, jobs.sessions)


async def _tidy(shelf: Shelf) -> None:
    """Delete what an earlier life of the node kept, as it has had its time."""
    while True:
        await shelf.tidy()
        await trio.sleep(TIDY_EVERY_S)
