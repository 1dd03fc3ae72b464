"""One job under way: its answer grows, and whoever follows it sees that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import trio

from meshnode.domain import GenerationRequest, ModelId
from meshnode.errors import (
    DeadlineExceeded,
    Draining,
    MeshnodeError,
    ModelLoading,
    ModelNotFound,
    NobodyServes,
    Overloaded,
)
from meshnode.events import Event, failure
from meshnode.gateway.coalesce import coalesce, lasting
from meshnode.gateway.feed import Desk, start_feed
from meshnode.gateway.job import Job, JobStatus

PATIENCE_S: Final = 86_400.0
"""How long an answer may take whose request names no deadline."""
PAUSES_S: Final = (1.0, 5.0, 15.0, 60.0, 60.0)
"""How long is waited before a job is tried again that could not begin for a reason that passes."""
_PASSING: Final = (Overloaded, ModelLoading)
_AFTER_A_START: Final = (NobodyServes, ModelNotFound)
"""What passes when the node has just started: its peers and models are still on their way."""


class Growing:
    """Events of one answer, those to come included, for any number of readers."""

    def __init__(self, events: Iterable[Event] = (), *, over: bool = False) -> None:
        self.events = list(events)
        self.over = over
        self.changed = trio.Event()
        """Set, and replaced, whenever something is added, or nothing will be any more."""

    def add(self, events: Iterable[Event]) -> None:
        """More of them; what came at once is joined."""
        self.events += coalesce(lasting(events))
        self._stir()

    def end(self) -> None:
        """Nothing will be added."""
        self.over = True
        self._stir()

    def _stir(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Follower:
    """Reads a growing answer from its first event to its end."""

    def __init__(self, growing: Growing) -> None:
        self._growing = growing
        self._told = 0

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Event:
        """The next event, once it is there."""
        await trio.lowlevel.checkpoint()
        while self._told == len(self._growing.events):
            if self._growing.over:
                raise StopAsyncIteration
            await self._growing.changed.wait()
        self._told += 1
        return self._growing.events[self._told - 1]


class Run:
    """One job from the queue to an end. ``resumed``: it comes from before the node's start."""

    def __init__(self, desk: Desk, now: Callable[[], float], *, resumed: bool) -> None:
        self._desk = desk
        self._now = now
        self._passing = (*_PASSING, *_AFTER_A_START) if resumed else _PASSING
        self._scope = trio.CancelScope()
        self._put_back = False
        self._job: Job | None = None
        self._model = ModelId("")
        self.growing = Growing()
        self.done = trio.Event()
        """Set when the job has left this run, and stands in the vault as it then is."""

    @property
    def job(self) -> Job | None:
        """The job as it is now; ``None`` while it waits."""
        if self._job is None:
            return None
        return msgspec.structs.replace(self._job, events=tuple(self.growing.events), model=self._model)

    async def cancel(self) -> None:
        """Stop it, and wait until that is written down; an answer that is whole stays so."""
        self._scope.cancel()
        await self.done.wait()

    async def put_back(self) -> None:
        """Stop it because the node stops."""
        self._put_back = True
        await self.cancel()

    async def answer(self, job: Job) -> JobStatus | None:
        """Answer it; how that ended, ``None`` where the node ends first and it is to be begun anew."""
        self._job = job
        error: MeshnodeError | None = None
        with self._scope:
            error = await self._patiently(job)
        if self._scope.cancelled_caught:
            return None if self._put_back else JobStatus.CANCELLED
        if isinstance(error, Draining) and self._desk.draining.is_set():
            return None
        if error is None:
            return JobStatus.COMPLETED
        self.growing.add([failure(error)])
        return JobStatus.FAILED

    async def _patiently(self, job: Job) -> MeshnodeError | None:
        for pause in PAUSES_S:
            error = await self._attempt(job)
            if error is None or self.growing.events or not isinstance(error, self._passing):
                return error
            with trio.move_on_after(pause):
                await self._desk.draining.wait()
        return await self._attempt(job)

    async def _attempt(self, job: Job) -> MeshnodeError | None:
        found: MeshnodeError | None = None
        async with trio.open_nursery() as nursery:
            try:
                feed = start_feed(nursery, self._desk, self._as_left(job))
                while (event := await feed.receive()) is not None:
                    self._model = ModelId("") if feed.route is None else feed.route.model
                    self.growing.add([event, *feed.ready()])
            except MeshnodeError as error:
                found = error
        return found

    def _as_left(self, job: Job) -> GenerationRequest:
        """The request with what is left of its deadline, which counts from when the job came."""
        left = PATIENCE_S
        if job.request.deadline_s is not None:
            left = job.created + job.request.deadline_s - self._now()
        if left <= 0:
            raise DeadlineExceeded("the request's deadline passed before its turn came.", hint="Allow more.")
        return msgspec.structs.replace(job.request, deadline_s=left)
