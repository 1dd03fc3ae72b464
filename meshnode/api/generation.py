"""Answering a generation request in any dialect: one-shot or as a stream, with the right status and headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import trio
from quart import Response

from meshnode.api import sse
from meshnode.api.answer_headers import settled
from meshnode.api.asgi import body_of, current, principal, sent_headers
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect as Dialect
from meshnode.api.fields import invalid
from meshnode.api.jobs import pending
from meshnode.api.kept import JobFeed, KeepingFeed, check_keep, follow_job, heading, heading_of, new_job
from meshnode.api.render import Renderer, overhead_ms
from meshnode.api.schema import Ask, Asker
from meshnode.api.stream import EVENT_STREAM, STREAM_HEADERS, EventStream, Source
from meshnode.api.templates import expanded
from meshnode.api.transforms import transform_headers
from meshnode.domain import ModelId, RequestId
from meshnode.errors import InternalFault
from meshnode.events import WAITS, Event, Finished
from meshnode.gateway.feed import start_feed
from meshnode.gateway.job import Job
from meshnode.gateway.loading import LoadWatch
from meshnode.mesh.answer import Route

T = TypeVar("T")

LARGE_BODY: Final = 1 << 17
"""Bytes of a body from which on it takes more than a few milliseconds to read."""
MOST_SESSION: Final = 256


async def parsed(parse: Callable[[bytes, Asker], T], body: bytes, asker: Asker) -> T:
    """What a body asks for; a large one is read in a thread, or every other answer would stand still meanwhile."""
    if len(body) < LARGE_BODY:
        return parse(body, asker)
    return await trio.to_thread.run_sync(parse, body, asker)


async def answer(context: ApiContext, dialect: Dialect, *, model: str | None = None) -> Response:
    """The response to the request at hand; a ``model`` in its path goes before the body's.

    Raises MeshnodeError before its first byte; a stream ends with it.
    """
    arrived = context.clock()
    handling, who = current(), principal()
    asker = Asker(RequestId(handling.request_id), who.caller, dict(sent_headers()))
    ask = of_path(await parsed(dialect.parse, await body_of(), asker), asker, model)
    ask = await expanded(context, ask)
    if dialect.prepare is not None:
        ask = await dialect.prepare(context, who, ask)
    check_keep(context, ask.keep)
    giving = _Giving(context, dialect, ask, new_job(context, dialect, who.caller, ask))
    clocks = _Clocks(context.clock, arrived, context.clock())
    if ask.keep.background:
        return await _later(giving, handling.nursery, clocks)
    feed = start_feed(handling.nursery, context, ask.request)
    source = KeepingFeed(context, feed, giving.job) if ask.keep.store else feed
    return await (_stream if ask.stream else _whole)(giving, source, clocks)


def of_path(ask: Ask, asker: Asker, model: str | None) -> Ask:
    """The request with what stands outside its body: the model of its path, the session of a header."""
    request = ask.request
    if model is not None:
        request = msgspec.structs.replace(request, model=ModelId(model))
        ask = ask._replace(model=model)
    if request.session is None and (session := asker.headers.get("x-session-id")):
        if len(session) > MOST_SESSION:
            raise invalid("x-session-id", session, f"at most {MOST_SESSION} characters")
        request = msgspec.structs.replace(request, session=session)
    return ask._replace(request=request)


class _Clocks(NamedTuple):
    clock: Callable[[], float]
    arrived: float
    handed_over: float

    def since_handed_over_ms(self) -> float:
        return (self.clock() - self.handed_over) * 1000

    def before_ms(self) -> float:
        return (self.handed_over - self.arrived) * 1000

    def total_ms(self) -> float:
        return (self.clock() - self.arrived) * 1000


class _Giving(NamedTuple):
    """One answer that is given: what was asked, and the job that it is or would be."""

    context: ApiContext
    dialect: Dialect
    ask: Ask
    job: Job

    def renderer(self, source: Source, *, include_usage: bool) -> Renderer:
        model = source.route.model if source.route is not None else ModelId(self.ask.model or "")
        head = heading(self.context, self.job.id, self.job.created, model)
        return self.dialect.renderer(head, include_usage=include_usage, echo=self.ask.echo)


async def _later(giving: _Giving, nursery: trio.Nursery, clocks: _Clocks) -> Response:
    """A request whose answer is fetched later, or watched: whoever watches may leave, and it goes on."""
    context, dialect, ask, job = giving
    await context.jobs.submit(job)
    if ask.stream:
        return await _stream(giving, await follow_job(nursery, context, job.principal, job.id), clocks)
    told = (dialect.pending or pending)(heading_of(context, job), ask, job)
    return Response(sse.encode(told.body), status=told.status, content_type="application/json")


async def _whole(giving: _Giving, source: Source, clocks: _Clocks) -> Response:
    events: list[Event] = []
    watch = LoadWatch(giving.context.load_patience_s)
    while not isinstance(event := await _next_or_later(source, watch), Finished):
        watch.see(event, trio.current_time())
        events.append(event)
    renderer = giving.renderer(source, include_usage=True)
    for one in [*events, event]:
        renderer.collect(one)
    response = Response(sse.encode(renderer.whole()), content_type="application/json")
    times = event.timings
    response.headers.update(_headers(source.route, times.queue_ms, overhead_ms(times, clocks.total_ms())))
    response.headers.update({**settled(event), **transform_headers(events)})
    if isinstance(source, KeepingFeed) and source.warning:
        response.headers["x-mesh-warning"] = source.warning
    return response


async def _next_or_later(source: Source, watch: LoadWatch) -> Event:
    """The next event of an answer that its caller does not see grow. Raises ModelLoading where that takes too long."""
    with trio.CancelScope(deadline=watch.deadline):
        event = await source.receive()
        if event is None:
            raise InternalFault("the answer broke off without a last event.")
        return event
    raise watch.error(trio.current_time())


async def _stream(giving: _Giving, source: Source, clocks: _Clocks) -> Response:
    context, dialect, ask, _ = giving
    as_kept = isinstance(source, JobFeed)
    at_once = as_kept and dialect.pending is not None  # its first words are of the job
    begun: Event | None = None
    with trio.move_on_after(0 if at_once else context.commit_after_s):
        begun = await source.receive()
        while isinstance(begun, WAITS):
            begun = await source.receive()
    queue_ms = clocks.since_handed_over_ms()
    renderer = giving.renderer(source, include_usage=ask.include_usage)
    stream = EventStream(context, source, renderer, begun, ask.request.id, voice=dialect.voice, as_kept=as_kept)
    response = Response(stream, content_type=EVENT_STREAM)
    response.headers.update(STREAM_HEADERS)
    response.headers.update({**_headers(source.route, queue_ms, clocks.before_ms()), **transform_headers([begun])})
    response.timeout = None
    return response


def _headers(route: Route | None, queue_ms: float, overhead: float) -> Mapping[str, Any]:
    found = {"x-mesh-queue-ms": f"{queue_ms:.1f}", "x-mesh-overhead-ms": f"{overhead:.1f}"}
    if route is None:
        return found
    road = f"{route.kind}; attempts={route.attempts}" + (f"; reason={route.reason}" if route.reason else "")
    return found | {
        "x-mesh-node": _plain(route.node),
        "x-mesh-model": _plain(route.model),
        "x-mesh-route": _plain(road),
    }


def _plain(text: str) -> str:
    """A header's value: visible ASCII and spaces, at most 256 of them."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:256]
