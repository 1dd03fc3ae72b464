"""What an API over a scripted dispatcher keeps: real jobs on a database in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from meshnode.api.context import ApiContext
from meshnode.gateway.history import KeptHistory
from meshnode.gateway.jobs import open_jobs
from meshnode.gateway.keeping import NOTHING_KEPT
from meshnode.storage.database import Database
from meshnode.storage.vault import Vault


@asynccontextmanager
async def with_jobs(context: ApiContext, database: Database) -> AsyncIterator[ApiContext]:
    """The context with real jobs on the database; as it is where it has some of its own."""
    if context.jobs is not NOTHING_KEPT.jobs:
        yield context
        return
    vault = Vault(database, bytes(32), entropy=os.urandom, now=context.wall_clock)
    async with open_jobs(vault, context, now=context.wall_clock) as jobs:
        yield replace(context, jobs=jobs, history=KeptHistory(vault, jobs.forget), sessions=jobs.sessions)
