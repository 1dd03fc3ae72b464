"""Carries out a request's plan: resolve the model, open the engine's stream, keep the deadline, close exactly once."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import msgspec
import structlog
import trio

from meshnode.domain import FIRST_TOKEN_S, GenerationRequest, ModelCard, ModelId
from meshnode.engine.delivery import decoded_tokens
from meshnode.engine.slot import ModelState
from meshnode.errors import DeadlineExceeded, InternalFault, MeshnodeError
from meshnode.events import Event, Failed, Finished, Loading, Queued, Started, failure
from meshnode.mesh.answer import Answer, Route
from meshnode.mesh.measure import Measure
from meshnode.mesh.route import Candidate, Local, plan, refusal
from meshnode.observe import Metrics

ATTEMPTS = 2
"""How often one request is handed to an engine when its worker dies before the first token."""


class Resolver(Protocol):
    """Knows models by the names callers use; :class:`meshnode.models.library.Library` is one."""

    def resolve(self, name: str | None) -> ModelCard:
        """The model of that name, or the default. Raises ModelNotFound."""


class Engines(Protocol):
    """Runs models; :class:`meshnode.engine.pool.Pool` is one."""

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""

    def state(self, model: ModelId) -> ModelState:
        """One model, loaded or not."""

    def generate(
        self, request: GenerationRequest, card: ModelCard
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request. Raises ServingError and RequestError."""


class LocalDispatcher:
    """A :class:`meshnode.mesh.answer.Dispatcher` for a node that asks nobody else. ``node`` is its peer id."""

    def __init__(self, library: Resolver, pool: Engines, metrics: Metrics, *, node: str) -> None:
        self._library = library
        self._pool = pool
        self._metrics = metrics
        self._node = node

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer; see the protocol. The deadline counts from here. Raises RequestError and ServingError."""
        began = trio.current_time()
        card = self._library.resolve(request.model or None)
        request = msgspec.structs.replace(request, model=card.id)
        with Measure(self._metrics, trio.current_time, request=request.id, model=card.id) as measure:
            async with AsyncExitStack() as stack:
                answer = LocalAnswer(self._pool, request, card, measure, began)
                stack.push_async_callback(answer.leave)
                try:
                    await answer.begin(self._choose(request, card))
                except MeshnodeError as error:
                    measure.refused(error.code)
                    raise
                yield answer

    def _choose(self, request: GenerationRequest, card: ModelCard) -> Candidate:
        local = Local(node=self._node, card=card, state=self._pool.state(card.id), draining=self._pool.draining)
        chosen = plan(request, local)
        if not chosen.candidates:
            raise refusal(chosen)
        return chosen.candidates[0]


class LocalAnswer:
    """An :class:`meshnode.mesh.answer.Answer` from this node's own engine.

    When the worker dies before the first token, the request is handed once more to the engine that replaces it, with
    the seed the first one drew; the caller sees no second ``Started``.
    """

    def __init__(
        self, pool: Engines, request: GenerationRequest, card: ModelCard, measure: Measure, began: float
    ) -> None:
        self._pool = pool
        self._request = request
        self._card = card
        self._measure = measure
        self._began = began
        self._stream = AsyncExitStack()
        self._events: AsyncIterator[Event] | None = None
        self._started = False
        self._spoke = False
        self._closed = False
        self._route = Route(kind="local", model=card.id, node="")

    @property
    def route(self) -> Route:
        """The road taken, with the attempts made so far."""
        return self._route

    async def begin(self, candidate: Candidate) -> None:
        """Hand the request to the engine. Raises what the pool raises."""
        self._route = Route(kind=candidate.kind, model=self._card.id, node=candidate.node, reason=candidate.reason)
        await self._enter()

    async def leave(self) -> None:
        """Free the engine's slot."""
        self._closed = True
        await self._stream.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; ends after exactly one ``Finished`` or ``Failed``."""
        if self._closed:
            raise StopAsyncIteration
        event = await self._next_in_time()
        self._spoke = self._spoke or decoded_tokens(event) > 0
        self._measure.observe(event)
        if isinstance(event, Finished | Failed):
            await self.leave()
        return event

    async def _next_in_time(self) -> Event:
        try:
            with trio.fail_at(self._deadline()):
                return await self._next()
        except trio.TooSlowError:
            what = f"the answer did not come within {self._deadline() - self._began:g} s."
            return failure(DeadlineExceeded(what, hint="Ask for less, or allow more (deadline_ms)."))

    def _deadline(self) -> float:
        """When to give up: the caller's bound on the whole answer, else ours on its first token."""
        if self._request.deadline_s is not None:
            return self._began + self._request.deadline_s
        return math.inf if self._spoke else self._began + FIRST_TOKEN_S

    async def _next(self) -> Event:
        while True:
            event = await self._pull()
            if isinstance(event, Failed) and self._may_retry(event):
                event = await self._retry() or await self._pull()
            if self._started and isinstance(event, Started | Queued | Loading):
                continue  # of a later attempt: the caller was told once
            if isinstance(event, Started):
                self._started = True
                self._keep_seed(event.seed)
            return event

    async def _pull(self) -> Event:
        assert self._events is not None, "begin() comes first"
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            return failure(InternalFault("the engine's answer ended without an end.", hint="Try again."))

    def _may_retry(self, event: Failed) -> bool:
        return event.code == "worker_died" and not self._spoke and self._route.attempts < ATTEMPTS

    async def _retry(self) -> Failed | None:
        """Try once more; the failure of trying, if it failed at once."""
        attempts = self._route.attempts + 1
        self._route = msgspec.structs.replace(self._route, attempts=attempts, reason="its first worker died")
        structlog.get_logger().info("request_retried", request=self._request.id, model=self._card.id, attempt=attempts)
        await self._stream.aclose()
        try:
            await self._enter()
        except MeshnodeError as error:
            return failure(error)
        return None

    async def _enter(self) -> None:
        self._stream = AsyncExitStack()
        self._events = await self._stream.enter_async_context(self._pool.generate(self._request, self._card))

    def _keep_seed(self, seed: int) -> None:
        """Another attempt at this answer must draw the same tokens."""
        sampling = msgspec.structs.replace(self._request.sampling, seed=seed)
        self._request = msgspec.structs.replace(self._request, sampling=sampling)
