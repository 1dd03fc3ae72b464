"""Jobs over the vault: kept answers, and requests that are answered though nobody waits.

What is to be answered lies in the vault before its id is told, and is taken up again when the node starts, from its
beginning. Each time is counted before it begins, so that a request which ends the node is not tried for ever; a node
that was asked to stop puts its jobs back uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

import msgspec
import structlog
import trio

from meshnode.domain import CallerId, Record
from meshnode.errors import Draining, InternalFault, MeshnodeError, RateLimited
from meshnode.events import Event, failure
from meshnode.gateway.faults import as_error
from meshnode.gateway.feed import Desk
from meshnode.gateway.job import Job, JobPage, JobStatus
from meshnode.gateway.run import Follower, Growing, Run
from meshnode.gateway.sessions import Sessions
from meshnode.storage.vault import Item, Ref, Vault, absent, contents, readable

KIND: Final = "job"
"""What jobs are in the vault."""
TIDY_EVERY_S: Final = 600.0
"""How often what has had its time is deleted."""
_log = structlog.get_logger()


class Limits(NamedTuple):
    """How many jobs are answered at a time, how many one principal may have unfinished, how often one is begun."""

    at_once: int = 16
    unfinished: int = 64
    attempts: int = 3


LIMITS: Final = Limits()


class Kept(Record, frozen=True):
    """A job in the vault, and how often its answer was begun."""

    job: Job
    attempts: int = 0


class KeptJobs:
    """:class:`meshnode.gateway.job.Jobs` over a vault; made by :func:`open_jobs`."""

    keeps: Final = True

    def __init__(
        self, vault: Vault, desk: Desk, nursery: trio.Nursery, now: Callable[[], float], limits: Limits
    ) -> None:
        self._vault = vault
        self._sessions = Sessions(vault)
        self._desk = desk
        self._nursery = nursery
        self._now = now
        self._limits = limits
        self._coming: Counter[CallerId] = Counter()
        self._queue: dict[Ref, Run] = {}
        """What waits, in order."""
        self._runs: dict[Ref, Run] = {}
        """What is under way."""
        self._unsaved: dict[Ref, Kept] = {}
        """What is over and could not be written down: it is tried again."""
        self._closing = False

    @property
    def sessions(self) -> Sessions:
        """The conversations that jobs add to."""
        return self._sessions

    # --- Jobs -------------------------------------------------------------------------------------

    async def keep(self, job: Job) -> None:
        """See the protocol."""
        await self._vault.put(_item(Kept(job=job)))
        if job.in_session and job.status is JobStatus.COMPLETED:
            await self._sessions.add(job)

    async def change(self, job: Job) -> None:
        """See the protocol."""
        if not await self._vault.replace(_item(Kept(job=job))):
            raise absent(KIND, job.id)

    async def submit(self, job: Job) -> None:
        """See the protocol."""
        if self._stopping:
            raise Draining("the node is stopping.", hint="Try again when it is back.")
        who = job.principal
        if (held := self._unfinished(who)) >= self._limits.unfinished:
            raise RateLimited(f"{held} jobs of yours are unfinished; that is all this node takes.", hint="Try later.")
        self._coming[who] += 1
        try:
            await self._vault.put(_item(Kept(job=job)))
            self._queue[Ref(who, job.id)] = Run(self._desk, self._now, resumed=False)
        finally:
            self._coming[who] -= 1
        self._admit()

    async def job(self, principal: CallerId, id_: str) -> Job:
        """See the protocol."""
        ref = Ref(principal, id_)
        run = self._runs.get(ref)
        if run is not None and run.job is not None:
            return run.job
        return (await self._kept(ref)).job

    async def jobs(
        self, principal: CallerId, *, after: str | None = None, limit: int = 20, newest_first: bool = True
    ) -> JobPage:
        """See the protocol."""
        page = await self._vault.page(principal, KIND, after=after, limit=limit, newest_first=newest_first)
        jobs = (self._as_it_is(kept.job) for kept in readable(page.items, Kept))
        return JobPage(tuple(jobs), page.more, page.last)

    async def cancel(self, principal: CallerId, id_: str) -> Job:
        """See the protocol."""
        ref = Ref(principal, id_)
        if (run := self._runs.get(ref)) is not None:
            await run.cancel()
            return (await self._kept(ref)).job
        self._leave_queue(ref)
        with trio.CancelScope(shield=True):  # who asked may leave: it stands in no queue any more
            kept = await self._kept(ref)
            if not kept.job.status.over:
                kept = self._ended(kept, JobStatus.CANCELLED)
                await self._save(ref, kept)
        return kept.job

    async def delete(self, principal: CallerId, id_: str) -> None:
        """See the protocol."""
        ref = Ref(principal, id_)
        self._leave_queue(ref)
        if (run := self._runs.get(ref)) is not None:
            await run.cancel()
        self._unsaved.pop(ref, None)
        with trio.CancelScope(shield=True):  # as above
            await self._vault.delete(principal, KIND, id_)

    @asynccontextmanager
    async def follow(self, principal: CallerId, id_: str) -> AsyncIterator[AsyncIterator[Event]]:
        """See the protocol."""
        ref = Ref(principal, id_)
        run = self._runs.get(ref) or self._queue.get(ref)
        growing = Growing((await self.job(principal, id_)).events, over=True) if run is None else run.growing
        yield Follower(growing)

    # --- for history and the node -----------------------------------------------------------------

    async def forget(self) -> None:
        """Stop everything of everybody, which is about to be thrown away."""
        for ref in list(self._queue):
            self._leave_queue(ref)
        self._unsaved.clear()
        for run in list(self._runs.values()):
            await run.cancel()

    async def resume(self) -> None:
        """Take up what an earlier life of the node left unfinished."""
        for ref in await self._vault.unfinished(KIND):
            self._queue[ref] = Run(self._desk, self._now, resumed=True)
        self._admit()

    async def tidy(self) -> None:
        """Delete what has had its time, and write down what could not be, now and then, for ever."""
        while True:
            for ref, kept in list(self._unsaved.items()):
                await self._save(ref, kept)
            await self._vault.tidy()
            await trio.sleep(TIDY_EVERY_S)

    async def close(self) -> None:
        """Begin nothing more, and put back what is under way."""
        self._closing = True
        for ref in list(self._queue):
            self._leave_queue(ref)
        for run in list(self._runs.values()):
            await run.put_back()

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._closing or self._desk.draining.is_set()

    def _unfinished(self, who: CallerId) -> int:
        held = [*self._queue, *self._runs, *self._unsaved]
        return sum(ref.principal == who for ref in held) + self._coming[who]

    def _as_it_is(self, job: Job) -> Job:
        ref = Ref(job.principal, job.id)
        run = self._runs.get(ref)
        if run is not None and run.job is not None:
            return run.job
        return self._unsaved[ref].job if ref in self._unsaved else job

    def _admit(self) -> None:
        """Begin what there is room for: of the principal who has the fewest under way, the oldest."""
        while self._queue and len(self._runs) < self._limits.at_once and not self._stopping:
            running = Counter(ref.principal for ref in self._runs)
            ref = min(self._queue, key=lambda ref: running[ref.principal])
            self._runs[ref] = self._queue.pop(ref)
            self._nursery.start_soon(self._carry_out, ref, self._runs[ref])

    def _leave_queue(self, ref: Ref) -> None:
        if (run := self._queue.pop(ref, None)) is not None:
            run.growing.end()

    async def _carry_out(self, ref: Ref, run: Run) -> None:
        """One job from the queue to its end."""
        try:
            await self._begin(ref, run)
        except Exception as error:
            await self._give_up(ref, run, as_error(error, ref.id))
        finally:
            run.growing.end()
            run.done.set()
            del self._runs[ref]
            self._admit()

    async def _begin(self, ref: Ref, run: Run) -> None:
        kept = await self._kept(ref)
        if kept.attempts >= self._limits.attempts:
            raise InternalFault(f"the answer was begun {kept.attempts} times, and the node ended each time.")
        begun = msgspec.structs.replace(kept.job, status=JobStatus.IN_PROGRESS)
        if not await self._vault.replace(_item(Kept(job=begun, attempts=kept.attempts + 1))):
            return
        status = await run.answer(begun)
        if status is None:  # by the node's end
            await self._vault.replace(_item(kept))
            return
        assert run.job is not None
        ended = self._ended(Kept(job=run.job), status)
        if ended.job.in_session and status is JobStatus.COMPLETED:
            await self._remember(ended.job)
        await self._save(ref, ended)

    async def _remember(self, job: Job) -> None:
        """A full disk costs the session its turn, not the job its answer."""
        try:
            await self._sessions.add(job)
        except MeshnodeError as error:
            _log.warning("turn_not_kept", id=job.id, code=error.code)

    async def _give_up(self, ref: Ref, run: Run, error: MeshnodeError) -> None:
        """End it as failed, unless it was deleted meanwhile or cannot be read; then it is tried at the next start."""
        _log.warning("job_not_answered", id=ref.id, code=error.code)
        with suppress(MeshnodeError):
            kept = await self._kept(ref)
            run.growing.add([failure(error)])
            await self._save(ref, self._ended(kept, JobStatus.FAILED, [failure(error)]))

    def _ended(self, kept: Kept, status: JobStatus, events: Sequence[Event] = ()) -> Kept:
        job = kept.job
        ended = msgspec.structs.replace(job, status=status, ended=int(self._now()), events=(*job.events, *events))
        return Kept(job=ended, attempts=kept.attempts)

    async def _kept(self, ref: Ref) -> Kept:
        """The job in the vault, or the one that could not be written there. Raises NotFound."""
        if (unsaved := self._unsaved.get(ref)) is not None:
            return unsaved
        return contents(await self._vault.get(ref.principal, KIND, ref.id), Kept)

    async def _save(self, ref: Ref, kept: Kept) -> None:
        """Write down a job that is over; one that was deleted meanwhile stays so, a full disk is waited for."""
        try:
            await self._vault.replace(_item(kept))
        except MeshnodeError as error:
            self._unsaved[ref] = kept
            _log.warning("job_not_written", id=ref.id, code=error.code)
        else:
            self._unsaved.pop(ref, None)


@asynccontextmanager
async def open_jobs(
    vault: Vault, desk: Desk, *, now: Callable[[], float], limits: Limits = LIMITS
) -> AsyncIterator[KeptJobs]:
    """The jobs in a vault, answered while the block is open; what is under way at its end is put back."""
    async with trio.open_nursery() as nursery:
        jobs = KeptJobs(vault, desk, nursery, now, limits)
        await jobs.resume()
        nursery.start_soon(jobs.tidy)
        yield jobs
        await jobs.close()
        nursery.cancel_scope.cancel()


def _item(kept: Kept) -> Item:
    job = kept.job
    return Item(
        principal=job.principal,
        kind=KIND,
        id=job.id,
        data=msgspec.msgpack.encode(kept),
        unfinished=not job.status.over,
        created=job.created,
    )
