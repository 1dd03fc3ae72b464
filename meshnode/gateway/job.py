"""A request that is kept: to be answered later, or to be had again once it was answered.

Dialects stay in ``api``: a job is parsed when it is submitted and rendered when it is fetched. What is kept is the
domain's request, the events of the answer, and the name of the dialect with what its answer repeats of the request.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from meshnode.domain import CallerId, GenerationRequest, ModelId, Record
from meshnode.events import Event


class JobStatus(enum.StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing will be added to it."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class Job(Record, frozen=True):
    """One kept request. ``created`` and ``ended`` in seconds since 1970; ``id`` is that of the answer.

    ``events`` are those of the answer so far, neighbouring text joined, ``Failed`` included; ``model`` is what the
    request's name came to, empty until somebody took it; ``echo`` is JSON text.
    """

    id: str
    dialect: str
    principal: CallerId
    request: GenerationRequest
    created: int
    ended: int | None = None
    status: JobStatus = JobStatus.QUEUED
    model: ModelId = ModelId("")
    echo: str = "{}"
    events: tuple[Event, ...] = ()
    background: bool = False


class Jobs(Protocol):
    """The jobs of everybody, each seen only by its principal: to all others it is not there (NotFound)."""

    async def keep(self, job: Job) -> None:
        """Keep a job that is over. Raises Forbidden where keeping is off, DiskFull."""

    async def submit(self, job: Job) -> None:
        """Keep a job and answer it as its turn comes, over restarts of the node too. Raises Overloaded, as keep."""

    async def job(self, principal: CallerId, id_: str) -> Job:
        """The job as it is now, events of a running one included. Raises NotFound."""

    async def cancel(self, principal: CallerId, id_: str) -> Job:
        """Stop it; one that is over stays as it is. Gives it as it then is. Raises NotFound."""

    async def delete(self, principal: CallerId, id_: str) -> None:
        """Stop and forget it. Raises NotFound."""

    def follow(self, principal: CallerId, id_: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """All its events from the first on, those to come included; ends with the job. Raises NotFound."""
