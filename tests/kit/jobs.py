"""Jobs on a database, over a dispatcher that plays a script."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from meshnode.domain import OWNER, CallerId, GenerationRequest, ModelId, RequestId
from meshnode.events import Event
from meshnode.gateway.job import Job
from meshnode.gateway.jobs import LIMITS, KeptJobs, Limits, open_jobs
from meshnode.storage.database import Database
from meshnode.storage.vault import Vault
from tests.kit.api import Scripted, a_context

KEY = bytes(range(32))
BORN = 1_700_000_000


@dataclass
class Desk:
    """The jobs, and what answers them."""

    jobs: KeptJobs
    dispatcher: Scripted
    vault: Vault
    draining: trio.Event


@asynccontextmanager
async def open_desk(database: Database, dispatcher: Scripted, limits: Limits = LIMITS) -> AsyncIterator[Desk]:
    """Jobs that are answered while the block is open."""
    context = a_context(dispatcher, [])
    start = trio.current_time()

    def now() -> float:
        return BORN + trio.current_time() - start

    vault = Vault(database, KEY, entropy=os.urandom, now=now)
    async with open_jobs(vault, context, now=now, limits=limits) as jobs:
        yield Desk(jobs, dispatcher, vault, context.draining)


def a_job(id_: str = "job_1", *, principal: CallerId = OWNER, deadline_s: float | None = None) -> Job:
    """A job to submit."""
    request = GenerationRequest(id=RequestId("r"), model=ModelId("tiny"), prompt="hi", deadline_s=deadline_s)
    return Job(id=id_, dialect="chat", principal=principal, request=request, created=BORN, background=True)


async def followed(jobs: KeptJobs, job: Job) -> list[Event]:
    """All its events, to the end."""
    async with jobs.follow(job.principal, job.id) as events:
        return [event async for event in events]
