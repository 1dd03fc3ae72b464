"""Answers that are kept: how one becomes a job while it is given, and how a job becomes an answer again."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import structlog
import trio

from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect
from meshnode.api.render import Heading, fingerprint
from meshnode.api.schema import Ask, Keep
from meshnode.domain import CallerId, ModelId
from meshnode.errors import Cancelled, Draining, MeshnodeError, UnsupportedParameter
from meshnode.events import CLOSING, Event, Failed, Finished, Started, error_of, failure
from meshnode.gateway.coalesce import coalesce, lasting
from meshnode.gateway.faults import as_error
from meshnode.gateway.feed import Feed, Relayed
from meshnode.gateway.job import Job, JobStatus
from meshnode.mesh.answer import Route

IN_BACKGROUND: Final = "background"
"""The road of an answer that was asked for and is not waited for."""
_log = structlog.get_logger()


def check_keep(context: ApiContext, keep: Keep) -> None:
    """Raises UnsupportedParameter where something is to be kept and keeping is off."""
    asked = "async_mode" if keep.background else "store" if keep.store else None
    if asked is not None and not context.jobs.keeps:
        raise UnsupportedParameter(
            f"{asked}: this node keeps no answers.", hint="Its owner can change that: store.enabled.", param=asked
        )


def heading(context: ApiContext, id_: str, created: int, model: ModelId) -> Heading:
    """What an answer repeats in each of its chunks."""
    weights = next((card.sha256 for card in context.library.cards() if card.id == model), "")
    return Heading(id_, created, model, fingerprint(context.facts.version, model, weights))


def heading_of(context: ApiContext, job: Job) -> Heading:
    """The same of a job."""
    return heading(context, job.id, job.created, job.model or job.request.model)


def new_job(context: ApiContext, dialect: Dialect, principal: CallerId, ask: Ask) -> Job:
    """The job that a request is or, where it is not kept, would be: nothing of its answer is there."""
    return Job(
        id=dialect.prefix + context.entropy(12).hex(),
        dialect=dialect.name,
        principal=principal,
        request=ask.request,
        created=int(context.wall_clock()),
        echo=msgspec.json.encode(dict(ask.echo)).decode() if ask.keep.store or ask.keep.background else "{}",
        background=ask.keep.background,
        in_session=ask.keep.in_session,
    )


def whole(context: ApiContext, dialect: Dialect, job: Job) -> dict[str, Any]:
    """The one-shot answer of a job that is over, as its dialect has it; as far as it came where that is not whole."""
    renderer = dialect.renderer(heading_of(context, job), include_usage=True, echo=msgspec.json.decode(job.echo))
    for event in job.events:
        renderer.collect(event)
    return renderer.whole()


class KeepingFeed:
    """The events of an answer as they come; before the last one is given, the answer is kept.

    ``warning`` says why that failed, if it did: an answer that was computed is not lost for it. What failed before it
    began is not kept.
    """

    def __init__(self, context: ApiContext, feed: Feed, job: Job) -> None:
        self._context = context
        self._feed = feed
        self._job = job
        self._events: list[Event] = []
        self._last: Event | MeshnodeError | None = None
        self._over = False
        self.warning = ""

    @property
    def route(self) -> Route | None:
        """See :class:`meshnode.gateway.feed.Feed`."""
        return self._feed.route

    async def receive(self) -> Event | None:
        """The next event; ``None`` after the last. Raises the error that ended the answer."""
        if self._last is None:
            try:
                event = await self._feed.receive()
            except MeshnodeError as error:
                self._last = error
            else:
                if not isinstance(event, CLOSING):
                    return self._seen(event)
                self._last = event
        return await self._end(self._last)

    def ready(self) -> list[Event]:
        """The events that can be had without waiting; never the last one."""
        events = self._feed.ready() if self._last is None else []
        if events and isinstance(events[-1], CLOSING):
            self._last = events.pop()
        for event in events:
            self._seen(event)
        return events

    def _seen(self, event: Event | None) -> Event | None:
        if event is not None:
            self._events += lasting([event])
        return event

    async def _end(self, last: Event | MeshnodeError) -> Event | None:
        """The last event, once the answer is kept; whoever was cut off meanwhile may ask again."""
        if self._over:
            return None
        closing = failure(last) if isinstance(last, MeshnodeError) else last
        if not isinstance(closing, Failed) or any(isinstance(event, Started) for event in self._events):
            await self._keep(closing)
        self._over = True
        if isinstance(last, MeshnodeError):
            raise last
        return last

    async def _keep(self, closing: Event) -> None:
        route = self.route
        job = msgspec.structs.replace(
            self._job,
            status=JobStatus.COMPLETED if isinstance(closing, Finished) else JobStatus.FAILED,
            ended=int(self._context.wall_clock()),
            model=self._job.model if route is None else route.model,
            events=(*coalesce(self._events), closing),
        )
        try:
            await self._context.jobs.keep(job)
        except MeshnodeError as error:
            _log.warning("answer_not_kept", request_id=job.request.id, code=error.code)
            self.warning = f"not kept: {error.code}"


class JobFeed(Relayed):
    """The events of a job as they are kept, whether it runs or is over. Made by :func:`follow_job`."""

    def __init__(self, context: ApiContext, principal: CallerId, id_: str) -> None:
        super().__init__()
        self._context = context
        self._principal = principal
        self._id = id_
        self.route: Route | None = None

    async def run(self) -> None:
        """Read the job to its end, or the node's."""
        async with self._send:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_with_node, nursery.cancel_scope)
                    self._error = await self._read()
                    nursery.cancel_scope.cancel()
            except Exception as error:
                self._error = as_error(error, self._id)

    async def _read(self) -> MeshnodeError | None:
        async with self._context.jobs.follow(self._principal, self._id) as events:
            async for event in events:
                if self.route is None:
                    job = await self._context.jobs.job(self._principal, self._id)
                    self.route = Route(kind=IN_BACKGROUND, model=job.model, node=self._context.facts.peer_id)
                if isinstance(event, Failed):
                    return error_of(event)
                await self._send.send(event)
                if isinstance(event, Finished):
                    return None
        return Cancelled("the job was cancelled.")

    async def _end_with_node(self, scope: trio.CancelScope) -> None:
        await self._context.draining.wait()
        self._error = Draining("the node is stopping.", hint="The job goes on when it is back.")
        scope.cancel()


async def follow_job(nursery: trio.Nursery, context: ApiContext, principal: CallerId, id_: str) -> JobFeed:
    """Begin to follow a job in its client's nursery. Raises NotFound."""
    await context.jobs.job(principal, id_)
    feed = JobFeed(context, principal, id_)
    nursery.start_soon(feed.run)
    return feed
