"""Answering a generation request in any dialect: one-shot or as a stream, with the right status and headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody

from meshnode.api import sse
from meshnode.api.asgi import body_of, current
from meshnode.api.context import ApiContext
from meshnode.api.errors import as_error
from meshnode.api.fields import invalid
from meshnode.api.render import Heading, Renderer, coalesce, fingerprint, overhead_ms, waiting
from meshnode.api.schema import Ask, Asker
from meshnode.api.templates import expanded
from meshnode.api.voice import OPENAI, Voice
from meshnode.domain import ModelId, RequestId
from meshnode.errors import InternalFault, MeshnodeError, Unauthorized
from meshnode.events import Event, Finished, Heartbeat, Loading, Prefilling, Queued
from meshnode.gateway.feed import Feed, start_feed
from meshnode.gateway.loading import LoadWatch
from meshnode.gateway.principal import Principal
from meshnode.mesh.answer import Route

LARGE_BODY: Final = 1 << 17
"""Bytes of a body from which on it takes more than a few milliseconds to read."""
PROGRESS_EVERY_S: Final = 1.0
"""How often a stream that waits for its model says how far that is, at most."""
MOST_SESSION: Final = 256
_WAITS: Final = (Queued, Loading, Heartbeat)


class MakeRenderer(Protocol):
    """A renderer's class."""

    def __call__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = ...) -> Renderer: ...


class Dialect(NamedTuple):
    """One way to ask and to be answered.

    ``name`` is what a kept answer remembers it by, ``prefix`` begins the answers' ids. ``prepare`` completes a request
    with what the node keeps for the principal (an earlier answer, say), before it is carried out.
    """

    name: str
    prefix: str
    parse: Callable[[bytes, Asker], Ask]
    renderer: MakeRenderer
    voice: Voice = OPENAI
    prepare: Callable[[ApiContext, Principal, Ask], Awaitable[Ask]] | None = None


async def parsed(dialect: Dialect, body: bytes, asker: Asker) -> Ask:
    """What a body asks for; a large one is read in a thread, or every other answer would stand still meanwhile."""
    if len(body) < LARGE_BODY:
        return dialect.parse(body, asker)
    return await trio.to_thread.run_sync(dialect.parse, body, asker)


async def answer(context: ApiContext, dialect: Dialect, *, model: str | None = None) -> Response:
    """The response to the request at hand; a ``model`` in its path goes before the body's.

    Raises MeshnodeError before its first byte; a stream ends with it.
    """
    arrived = context.clock()
    handling = current()
    if handling.principal is None:
        raise Unauthorized("this call asks for a key.")
    asker = Asker(RequestId(handling.request_id), handling.principal.caller, _request_headers())
    ask = of_path(await parsed(dialect, await body_of(), asker), asker, model)
    ask = await expanded(context, ask)
    if dialect.prepare is not None:
        ask = await dialect.prepare(context, handling.principal, ask)
    feed = start_feed(handling.nursery, context, ask.request)
    clocks = _Clocks(context.clock, arrived, context.clock())
    if ask.stream:
        return await _stream(context, dialect, ask, feed, clocks)
    return await _whole(context, dialect, ask, feed, clocks)


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


def _request_headers() -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.scope["headers"]}


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


async def _whole(context: ApiContext, dialect: Dialect, ask: Ask, feed: Feed, clocks: _Clocks) -> Response:
    events: list[Event] = []
    watch = LoadWatch(context.load_patience_s)
    while not isinstance(event := await _next_or_later(feed, watch), Finished):
        watch.see(event, trio.current_time())
        events.append(event)
    renderer = dialect.renderer(_heading(context, dialect, ask, feed.route), include_usage=True, echo=ask.echo)
    for one in [*events, event]:
        renderer.collect(one)
    response = Response(sse.encode(renderer.whole()), content_type="application/json")
    times = event.timings
    response.headers.update(_headers(feed.route, times.queue_ms, overhead_ms(times, clocks.total_ms())))
    return response


async def _next_or_later(feed: Feed, watch: LoadWatch) -> Event:
    """The next event of an answer that its caller does not see grow. Raises ModelLoading where that takes too long."""
    with trio.CancelScope(deadline=watch.deadline):
        event = await feed.receive()
        if event is None:
            raise InternalFault("the answer broke off without a last event.")
        return event
    raise watch.error(trio.current_time())


async def _stream(context: ApiContext, dialect: Dialect, ask: Ask, feed: Feed, clocks: _Clocks) -> Response:
    begun: Event | None = None
    with trio.move_on_after(context.commit_after_s):
        begun = await feed.receive()
        while isinstance(begun, _WAITS):
            begun = await feed.receive()
    queue_ms = clocks.since_handed_over_ms()
    heading = _heading(context, dialect, ask, feed.route)
    renderer = dialect.renderer(heading, include_usage=ask.include_usage, echo=ask.echo)
    stream = EventStream(context, feed, renderer, begun, ask.request.id, voice=dialect.voice)
    response = Response(stream, content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.headers.update(_headers(feed.route, queue_ms, clocks.before_ms()))
    response.timeout = None
    return response


class EventStream(ResponseBody):
    """The body of a stream: what is ready in one piece, a comment where nothing comes, an error at the end."""

    def __init__(
        self,
        context: ApiContext,
        feed: Feed,
        renderer: Renderer,
        begun: Event | None,
        request_id: RequestId,
        *,
        voice: Voice = OPENAI,
    ) -> None:
        self._context = context
        self._voice = voice
        self._feed = feed
        self._renderer = renderer
        self._begun = [begun] if begun is not None and not isinstance(begun, _WAITS) else []
        self._silent = not self._begun
        self._waits_for = begun
        self._request_id = request_id
        self._over = False
        self._answering = False
        self._spoke = trio.current_time()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, exc_type: type[BaseException], exc_value: BaseException, tb: TracebackType) -> None:
        pass

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> bytes:
        """The next piece; never empty."""
        while not self._over:
            try:
                piece = await self._next()
            except MeshnodeError as error:
                piece = self._fail(error)
            except Exception as error:
                piece = self._fail(as_error(error, self._request_id))
            if piece:
                self._spoke = trio.current_time()
                return piece
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        if self._silent:
            self._silent = False
            return self._idle()
        events = self._begun or await self._more()
        self._begun = []
        if not events:
            return self._idle()
        waits = [event for event in events if isinstance(event, (*_WAITS, Prefilling))]
        self._waits_for = waits[-1] if waits else None
        piece = self._framed(self._renderer.chunks(coalesce(events)))
        self._answering = self._answering or bool(piece)
        if isinstance(events[-1], Finished):
            self._over = True
            return piece + self._voice.done
        if not piece and isinstance(self._waits_for, Loading) and trio.current_time() >= self._spoke + PROGRESS_EVERY_S:
            return self._idle()
        return piece

    def _idle(self) -> bytes:
        """What keeps a stream alive that has nothing to say."""
        if self._answering and self._voice.ping:
            return self._voice.ping
        return self._voice.idle(waiting(self._waits_for))

    async def _more(self) -> list[Event]:
        """At least one event and all that are ready with it; none when it is time for a comment.

        Events that say nothing to the client do not put the comment off.
        """
        event: Event | None = None
        with trio.CancelScope(deadline=self._spoke + self._context.comment_every_s) as scope:
            event = await self._feed.receive()
        if event is not None:
            return [event, *self._feed.ready()]
        if scope.cancelled_caught:
            return []
        raise InternalFault("the answer broke off without a last event.")

    def _fail(self, error: MeshnodeError) -> bytes:
        self._over = True
        return self._framed(self._renderer.failed(error))

    def _framed(self, chunks: Iterable[Mapping[str, Any]]) -> bytes:
        return b"".join(map(self._voice.frame, chunks))


def _heading(context: ApiContext, dialect: Dialect, ask: Ask, route: Route | None) -> Heading:
    model = route.model if route is not None else ModelId(ask.model or "")
    weights = next((card.sha256 for card in context.library.cards() if card.id == model), "")
    return Heading(
        id=dialect.prefix + context.entropy(12).hex(),
        created=int(context.wall_clock()),
        model=model,
        fingerprint=fingerprint(context.facts.version, model, weights),
    )


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
