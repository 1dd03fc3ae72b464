"""The body of a streamed answer, whoever gives its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Protocol

import trio
from quart.wrappers.response import ResponseBody

from meshnode.api.answer_headers import trailer
from meshnode.api.context import ApiContext
from meshnode.api.errors import as_error
from meshnode.api.render import Renderer, coalesce, waiting
from meshnode.api.voice import OPENAI, Voice
from meshnode.domain import RequestId
from meshnode.errors import InternalFault, MeshnodeError
from meshnode.events import STANDING, WAITS, Event, Finished, Loading, Queued
from meshnode.mesh.answer import Route

PROGRESS_EVERY_S: Final = 1.0
"""How often a stream that waits for its model says how far that is, at most."""
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
STREAM_HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What keeps those between from holding a stream back."""


class Source(Protocol):
    """Events of one answer; a :class:`meshnode.gateway.feed.Feed` is one."""

    @property
    def route(self) -> Route | None:
        """The road so far; known once somebody took the request."""

    async def receive(self) -> Event | None:
        """The next event; ``None`` after the last. Raises the error that ended the answer."""

    def ready(self) -> list[Event]:
        """The events that can be had without waiting."""


class EventStream(ResponseBody):
    """The body of a stream: what is ready in one piece, a comment where nothing comes, an error at the end.

    ``as_kept``: each event makes its own chunks, so that a kept answer has the same chunks each time.
    """

    def __init__(
        self,
        context: ApiContext,
        feed: Source,
        renderer: Renderer,
        begun: Event | None,
        request_id: RequestId,
        *,
        voice: Voice = OPENAI,
        as_kept: bool = False,
    ) -> None:
        self._context = context
        self._voice = voice
        self._as_kept = as_kept
        self._feed = feed
        self._renderer = renderer
        self._begun = [begun] if begun is not None and not isinstance(begun, WAITS) else []
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
            return self._opening() or self._idle()
        events = self._begun or await self._more()
        self._begun = []
        if not events:
            return self._idle()
        waits = [event for event in events if isinstance(event, STANDING)]
        self._waits_for = waits[-1] if waits else None
        runs = [[event] for event in events] if self._as_kept else [coalesce(events)]
        piece = b"".join(self._framed(self._renderer.chunks(run)) for run in runs)
        self._answering = self._answering or bool(piece)
        if isinstance(events[-1], Finished):
            self._over = True
            return piece + trailer(events[-1]) + self._voice.done
        if not piece and isinstance(self._waits_for, Loading) and trio.current_time() >= self._spoke + PROGRESS_EVERY_S:
            return self._idle()
        return piece

    def _opening(self) -> bytes:
        """What is told of a kept answer before it begins: its id, where the dialect has an event for that."""
        return self._framed(self._renderer.chunks([Queued(0)])) if self._as_kept else b""

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
