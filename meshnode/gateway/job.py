"""A request that is kept: to be answered later, or to be had again once it was answered.

Dialects stay in ``api``: a job is parsed when it is submitted and rendered when it is fetched. What is kept is the
domain's request, the events of the answer, and the name of the dialect with what its answer repeats of the request.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from meshnode.domain import CallerId, GenerationRequest, ModelId, Record
from meshnode.errors import Forbidden
from meshnode.events import Event
from meshnode.storage.vault import absent


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

    ``events`` are those of the answer so far, without waits, text that came at once joined, ``Failed`` included;
    ``model`` is what the request's name came to, empty until somebody took it; ``echo`` is JSON text. ``background``:
    nobody waited for the answer.
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
    in_session: bool = False
    """Once it is completed, its session remembers it."""


class JobPage(NamedTuple):
    """Some jobs, whether there are more behind them, and after which id those begin."""

    jobs: tuple[Job, ...]
    more: bool
    last: str | None = None


class Jobs(Protocol):
    """The jobs of everybody, each seen only by its principal: to all others it is not there (NotFound)."""

    @property
    def keeps(self) -> bool:
        """Whether anything is kept here. Where not, ``keep`` and ``submit`` raise Forbidden and no job is found."""

    async def keep(self, job: Job) -> None:
        """Keep a job that is over. Raises Forbidden where keeping is off, DiskFull."""

    async def change(self, job: Job) -> None:
        """Keep this in the place of one that is over. Raises NotFound where that was deleted meanwhile, DiskFull."""

    async def submit(self, job: Job) -> None:
        """Keep a job and answer it as its turn comes, over restarts of the node too. Raises RateLimited, as keep."""

    async def job(self, principal: CallerId, id_: str) -> Job:
        """The job as it is now, events of a running one included. Raises NotFound."""

    async def jobs(
        self, principal: CallerId, *, after: str | None = None, limit: int = 20, newest_first: bool = True
    ) -> JobPage:
        """Jobs in the order in which they came; ``after`` is the id of the last one seen. Raises NotFound for it."""

    async def cancel(self, principal: CallerId, id_: str) -> Job:
        """Stop it; one that is over stays as it is. Gives it as it then is. Raises NotFound."""

    async def delete(self, principal: CallerId, id_: str) -> None:
        """Stop and forget it. Raises NotFound."""

    def follow(self, principal: CallerId, id_: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """All its events from the first on, those to come included; ends with the job. Raises NotFound.

        They come as they are kept, however late one begins to follow: rendered one by one, they make the same chunks
        each time. One that was cancelled, or that the node's end put back, ends without Finished or Failed.
        """


class NoJobs:
    """:class:`Jobs` where keeping is off."""

    keeps: Final = False

    async def keep(self, job: Job) -> None:
        """Raises Forbidden."""
        raise _off()

    async def change(self, job: Job) -> None:
        """Raises NotFound."""
        raise absent("job", job.id)

    async def submit(self, job: Job) -> None:
        """Raises Forbidden."""
        raise _off()

    async def job(self, principal: CallerId, id_: str) -> Job:
        """Raises NotFound."""
        raise absent("job", id_)

    async def jobs(
        self, principal: CallerId, *, after: str | None = None, limit: int = 20, newest_first: bool = True
    ) -> JobPage:
        """None."""
        return JobPage((), False)

    async def cancel(self, principal: CallerId, id_: str) -> Job:
        """Raises NotFound."""
        raise absent("job", id_)

    async def delete(self, principal: CallerId, id_: str) -> None:
        """Raises NotFound."""
        raise absent("job", id_)

    def follow(self, principal: CallerId, id_: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Raises NotFound."""
        raise absent("job", id_)


def _off() -> Forbidden:
    return Forbidden("this node keeps no answers.", hint="Its owner can change that: store.enabled.")
