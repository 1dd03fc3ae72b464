"""``POST /v1/chat/compare``: one prompt to several models at a time, their answers side by side.

A model's failure is its own entry's error; the others go on. When streaming, every chunk is a chat chunk that says
whose it is (``entry``, and ``model`` as it was asked for), in the order in which they come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple

import trio
from quart import Blueprint, Response
from quart.wrappers.response import ResponseBody

from meshnode.api import sse
from meshnode.api.answer_headers import account
from meshnode.api.asgi import Handling, body_of, caller, current
from meshnode.api.chat import ChatRenderer
from meshnode.api.compare_schema import parse_comparison
from meshnode.api.context import ApiContext
from meshnode.api.errors import as_error, envelope
from meshnode.api.generation import parsed
from meshnode.api.render import Heading, fingerprint, timings, usage
from meshnode.api.schema import Ask, Asker
from meshnode.api.stream import EVENT_STREAM, STREAM_HEADERS
from meshnode.api.templates import expanded
from meshnode.domain import ModelId, RequestId
from meshnode.errors import InternalFault, MeshnodeError
from meshnode.events import Event, Finished, decoded_tokens
from meshnode.gateway.coalesce import coalesce
from meshnode.gateway.feed import Feed, start_feed

WINDOW: Final = 16
"""Chunks of all models that are ready before their reader takes them."""


def compare(context: ApiContext) -> Blueprint:
    """The endpoint."""
    routes = Blueprint("compare", __name__)

    @routes.post("/v1/chat/compare")
    async def comparing() -> Response:
        """An entry for each model, whether it answered or not."""
        handling = current()
        asker = Asker(RequestId(handling.request_id), caller())
        comparison = await parsed(parse_comparison, await body_of(), asker)
        entries = await _begin(context, handling, comparison.asks)
        if comparison.ask.stream:
            return _stream(context, handling, entries)
        return await _whole(context, entries)

    return routes


class Entry(NamedTuple):
    """One model's answer under way. ``began`` on the context's clock."""

    place: int
    model: str
    feed: Feed
    heading: Heading
    began: float


async def _begin(context: ApiContext, handling: Handling, asks: tuple[Ask, ...]) -> list[Entry]:
    ready = [await expanded(context, ask) for ask in asks]
    began = context.clock()
    return [
        Entry(place, ask.model or "", start_feed(handling.nursery, context, ask.request), _heading(context, ask), began)
        for place, ask in enumerate(ready)
    ]


def _heading(context: ApiContext, ask: Ask) -> Heading:
    """Under the name that was asked for: who answered is told beside it."""
    name = ask.model or ""
    return Heading(
        id="chatcmpl-" + context.entropy(12).hex(),
        created=int(context.wall_clock()),
        model=ModelId(name),
        fingerprint=fingerprint(context.facts.version, name, ""),
    )


class _Watch:
    """How long one answer took. Times in milliseconds since it was asked for."""

    def __init__(self, context: ApiContext, entry: Entry) -> None:
        self._context = context
        self._entry = entry
        self._first: float | None = None

    def see(self, event: Event) -> None:
        """An event came."""
        if self._first is None and decoded_tokens(event):
            self._first = self._now()

    def told(self, finished: Finished) -> dict[str, Any]:
        """What the end of an entry says of it."""
        route, charge = self._entry.feed.route, finished.charge
        return {
            "answered_by": None if route is None else route.model,
            "node": None if route is None else route.node,
            "route": None if route is None else route.kind,
            "time_ms": self._now(),
            "first_token_ms": self._first,
            "cost": 0 if charge is None else charge.cost_uc,
        }

    def _now(self) -> float:
        return round(1000 * (self._context.clock() - self._entry.began), 1)


# --- in one piece ---------------------------------------------------------------------------------


async def _whole(context: ApiContext, entries: list[Entry]) -> Response:
    found: list[dict[str, Any]] = [{} for _ in entries]

    async def collect(entry: Entry) -> None:
        try:
            found[entry.place] = await _answered(context, entry)
        except MeshnodeError as error:
            found[entry.place] = _failed(entry, error)

    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(collect, entry)
    body = {
        "id": "cmpr-" + context.entropy(12).hex(),
        "object": "chat.comparison",
        "created": int(context.wall_clock()),
        "data": found,
    }
    return Response(sse.encode(body), content_type="application/json")


async def _answered(context: ApiContext, entry: Entry) -> dict[str, Any]:
    watch = _Watch(context, entry)
    renderer = ChatRenderer(entry.heading, include_usage=True)
    while True:
        event = await _next(entry.feed)
        watch.see(event)
        renderer.collect(event)
        if isinstance(event, Finished):
            told = {**watch.told(event), **account(event)}
            return {"entry": entry.place, "model": entry.model, "response": renderer.whole(), **told}


async def _next(feed: Feed) -> Event:
    event = await feed.receive()
    if event is None:
        raise InternalFault("the answer broke off without a last event.")
    return event


def _failed(entry: Entry, error: MeshnodeError) -> dict[str, Any]:
    return {"entry": entry.place, "model": entry.model, **envelope(error), "status": error.status}


# --- as a stream ----------------------------------------------------------------------------------


def _stream(context: ApiContext, handling: Handling, entries: list[Entry]) -> Response:
    send, receive = trio.open_memory_channel[bytes](WINDOW)
    with send:
        for entry in entries:
            handling.nursery.start_soon(_relay, context, entry, send.clone(), handling.request_id)
    response = Response(_Interleaved(receive, context.comment_every_s), content_type=EVENT_STREAM)
    response.headers.update(STREAM_HEADERS)
    response.timeout = None
    return response


async def _relay(context: ApiContext, entry: Entry, send: trio.MemorySendChannel[bytes], request_id: str) -> None:
    """One model's chunks, its end or its error."""
    with contextlib.suppress(trio.BrokenResourceError):  # nobody reads any more
        async with send:
            try:
                await _relay_answer(context, entry, send)
            except trio.BrokenResourceError:
                raise
            except Exception as error:
                await send.send(sse.event(_failed(entry, as_error(error, request_id))))


async def _relay_answer(context: ApiContext, entry: Entry, send: trio.MemorySendChannel[bytes]) -> None:
    watch = _Watch(context, entry)
    renderer = ChatRenderer(entry.heading, include_usage=False)
    while True:
        events = [await _next(entry.feed), *entry.feed.ready()]
        for event in events:
            watch.see(event)
        for chunk in renderer.chunks(coalesce(events)):
            await send.send(sse.event({**chunk, "entry": entry.place}))
        if isinstance(last := events[-1], Finished):
            await send.send(sse.event(_end(entry, last, watch)))
            return


def _end(entry: Entry, finished: Finished, watch: _Watch) -> Mapping[str, Any]:
    heading = entry.heading
    return {
        "id": heading.id,
        "object": "chat.completion.chunk",
        "created": heading.created,
        "model": heading.model,
        "system_fingerprint": heading.fingerprint,
        "entry": entry.place,
        "choices": [],
        "usage": usage(finished.usage),
        "timings": timings(finished),
        **watch.told(finished),
        **account(finished),
    }


class _Interleaved(ResponseBody):
    """The body of a stream: what comes from any of the models, a comment where nothing does, the end after the last."""

    def __init__(self, receive: trio.MemoryReceiveChannel[bytes], comment_every_s: float) -> None:
        self._receive = receive
        self._comment_every_s = comment_every_s
        self._over = False

    async def __aenter__(self) -> _Interleaved:
        return self

    async def __aexit__(self, exc_type: type[BaseException], exc_value: BaseException, tb: TracebackType) -> None:
        self._receive.close()

    def __aiter__(self) -> _Interleaved:
        return self

    async def __anext__(self) -> bytes:
        """The next piece; never empty."""
        if self._over:
            raise StopAsyncIteration
        with trio.move_on_after(self._comment_every_s):
            try:
                return await self._receive.receive()
            except trio.EndOfChannel:
                self._over = True
                return sse.DONE
        return sse.comment("waiting")
