"""One answer, whoever gives it: attempts follow each other unnoticed until the first word, then there is one end.

Before anything of the answer was handed out, who fails is replaced: the caller sees no second ``Started``, ``Queued``
or ``Loading``, and every attempt draws with the same seed within what is left of the deadline. Afterwards a failure is
the answer's end, and what was delivered stays delivered. Who comes next, and what is said when nobody is left, is a
:class:`Course`'s to decide.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple, Protocol

import msgspec
import structlog
import trio

from meshnode.domain import FIRST_TOKEN_S, GenerationRequest
from meshnode.errors import DeadlineExceeded, InternalFault, MeshnodeError
from meshnode.events import (
    CLOSING,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    Started,
    decoded_tokens,
    error_of,
    failure,
)
from meshnode.mesh.answer import Route
from meshnode.mesh.measure import Measure
from meshnode.mesh.route import Candidate

_BEFORE = (Queued, Loading, Prefilling, Started, Heartbeat)
"""What comes before an answer's first word; after anything else nobody else can begin it anew."""
_ONCE = (Queued, Loading, Started)


class Speed(NamedTuple):
    """How fast an attempt was: seconds to its first token, tokens per second after it; None where not measured."""

    first_token_s: float | None
    decode_tps: float | None


class Course(Protocol):
    """Who is asked, one after the other."""

    @property
    def route(self) -> Route:
        """The road so far: who was asked last, and why."""

    def next(self) -> Candidate:
        """Who is to be asked now. Raises MeshnodeError when there is nobody."""

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """Whoever was asked last failed, with or without a word before.

        What the caller is to be told; None when :meth:`next` has another, never so once a word was spoken.
        """

    def late(self) -> None:
        """Whoever was asked last did not begin in the time that every answer is given."""

    def done(self, speed: Speed) -> None:
        """Whoever was asked last has answered."""


Open = Callable[[Candidate, GenerationRequest], AbstractAsyncContextManager[AsyncIterator[Event]]]
"""The events of one attempt; entering raises MeshnodeError, leaving ends it."""


class Failover:
    """An :class:`meshnode.mesh.answer.Answer` along a course. ``began`` is when the request came, in trio's time."""

    def __init__(
        self, request: GenerationRequest, course: Course, open_: Open, measure: Measure, *, began: float
    ) -> None:
        self._request = request
        self._course = course
        self._open = open_
        self._measure = measure
        self._began = began
        self._stream = AsyncExitStack()
        self._events: AsyncIterator[Event] | None = None
        self._told: set[type[Event]] = set()
        self._hidden: set[type[Event]] = set()
        self._spoke = False
        self._closed = False
        self._pace = _Pace()

    @property
    def route(self) -> Route:
        """The road taken, with the attempts made so far."""
        return self._course.route

    async def begin(self) -> None:
        """Hand the request to the first who takes it. Raises what the course says when nobody does."""
        try:
            with trio.fail_at(self._deadline()):
                error = await self._enter()
        except trio.TooSlowError:
            error = self._too_late()
        if error is not None:
            raise error

    async def leave(self) -> None:
        """Free the engine's slot, or tell the peer to stop."""
        self._closed = True
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; ends after exactly one ``Finished`` or ``Failed``."""
        if self._closed:
            raise StopAsyncIteration
        event = await self._next_in_time()
        self._measure.observe(event)
        if isinstance(event, Finished):
            self._course.done(self._pace.speed)
        if isinstance(event, CLOSING):
            await self.leave()
        return event

    # --- the deadline -------------------------------------------------------------------------

    async def _next_in_time(self) -> Event:
        deadline = self._deadline()
        if deadline == math.inf:
            return await self._next()
        with trio.CancelScope(deadline=deadline):  # in place of fail_at: this is done for every token
            return await self._next()
        return failure(self._too_late())

    def _deadline(self) -> float:
        """When to give up: the caller's bound on the whole answer, else ours on its first token."""
        if self._request.deadline_s is not None:
            return self._began + self._request.deadline_s
        return math.inf if self._spoke else self._began + FIRST_TOKEN_S

    def _too_late(self) -> MeshnodeError:
        if self._request.deadline_s is None:
            self._course.late()
        what = f"the answer did not come within {self._deadline() - self._began:g} s."
        return DeadlineExceeded(what, hint="Ask for less, or allow more (deadline_ms).")

    # --- attempts -----------------------------------------------------------------------------

    async def _next(self) -> Event:
        while True:
            event = await self._pull()
            if isinstance(event, Failed):
                error = await self._instead(error_of(event))
                if error is None:
                    continue
                return failure(error)
            if isinstance(event, _ONCE) and self._repeats(event):
                continue
            self._spoke = self._spoke or not isinstance(event, _BEFORE)
            self._pace.note(event)
            return event

    def _repeats(self, event: Event) -> bool:
        """Whether the caller was told so before: by an earlier attempt, or that it has started."""
        kind = type(event)
        if kind in self._hidden or Started in self._told:
            return True
        self._told.add(kind)
        if isinstance(event, Started):
            self._keep_seed(event.seed)
        return False

    async def _pull(self) -> Event:
        assert self._events is not None, "begin() comes first"
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            return failure(InternalFault("the answer ended without an end.", hint="Try again."))
        except MeshnodeError as error:
            return failure(error)

    async def _instead(self, error: MeshnodeError) -> MeshnodeError | None:
        """After a failure: go on with the next, or say what the caller is to be told."""
        told = self._course.lost(error, spoke=self._spoke)
        if told is None:
            await self._stream.aclose()
            self._hidden |= self._told
            told = await self._enter()
        return told

    async def _enter(self) -> MeshnodeError | None:
        """Ask one after the other until one takes it; what the caller is to be told when none does."""
        while True:
            try:
                candidate = self._course.next()
            except MeshnodeError as error:
                return error
            if (attempts := self._course.route.attempts) > 1:
                log = structlog.get_logger()
                log.info("request_retried", request=self._request.id, model=candidate.model, attempt=attempts)
            self._stream, self._pace = AsyncExitStack(), _Pace()
            try:
                events = self._open(candidate, self._as_left(candidate))
                self._events = await self._stream.enter_async_context(events)
            except MeshnodeError as error:
                told = self._course.lost(error, spoke=False)
                if told is not None:
                    return told
            else:
                return None

    def _as_left(self, candidate: Candidate) -> GenerationRequest:
        """The request for an attempt that begins now."""
        deadline_s = self._request.deadline_s
        if deadline_s is not None:
            deadline_s = max(0.001, self._began + deadline_s - trio.current_time())
        return msgspec.structs.replace(self._request, model=candidate.model, deadline_s=deadline_s)

    def _keep_seed(self, seed: int) -> None:
        """Another attempt at this answer must draw the same tokens; a seed once given stays."""
        if self._request.sampling.seed is None:
            sampling = msgspec.structs.replace(self._request.sampling, seed=seed)
            self._request = msgspec.structs.replace(self._request, sampling=sampling)


class _Pace:
    """How fast one attempt is."""

    def __init__(self) -> None:
        self._began = trio.current_time()
        self._first: float | None = None
        self._last = 0.0
        self._tokens = 0

    def note(self, event: Event) -> None:
        """An event came."""
        if tokens := decoded_tokens(event):
            self._last = trio.current_time()
            if self._first is None:
                self._first = self._last
            else:
                self._tokens += tokens

    @property
    def speed(self) -> Speed:
        """What was measured; a rate only over enough tokens."""
        if self._first is None:
            return Speed(None, None)
        took = self._last - self._first
        rate = self._tokens / took if took > 0 and self._tokens >= 8 else None
        return Speed(self._first - self._began, rate)


@asynccontextmanager
async def begun(answer: Failover, measure: Measure) -> AsyncIterator[None]:
    """While somebody answers; it is left with the block. Raises what the course says when nobody takes it."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(answer.leave)
        try:
            await answer.begin()
        except MeshnodeError as error:
            measure.refused(error.code)
            raise
        yield
