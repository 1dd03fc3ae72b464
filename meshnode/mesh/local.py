"""Answering with this node's own engine alone: what peers are served by, and a node that asks nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

import msgspec
import trio

from meshnode.domain import GenerationRequest, ModelCard, ModelId
from meshnode.engine.gate import Gate
from meshnode.engine.slot import ModelState
from meshnode.errors import MeshnodeError
from meshnode.events import Event
from meshnode.mesh.answer import Answer, Route
from meshnode.mesh.failover import Failover, Speed, begun
from meshnode.mesh.measure import Measure
from meshnode.mesh.route import Candidate, Local, plan, refusal
from meshnode.observe import Metrics

ATTEMPTS: Final = 2
"""How often one request is handed to an engine when its worker dies before the first token."""


class Names(Protocol):
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
        self, request: GenerationRequest, card: ModelCard, gate: Gate | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events of one request, no more of it computed than ``gate`` allows. Raises ServingError and RequestError."""


class LocalDispatcher:
    """A :class:`meshnode.mesh.answer.Dispatcher` for a node that asks nobody else. ``node`` is its peer id."""

    def __init__(self, library: Names, pool: Engines, metrics: Metrics, *, node: str) -> None:
        self._library = library
        self._pool = pool
        self._metrics = metrics
        self._node = node

    @asynccontextmanager
    async def open(self, request: GenerationRequest, *, gate: Gate | None = None) -> AsyncIterator[Answer]:
        """One answer; see the protocol. The deadline counts from here. Raises RequestError and ServingError.

        With a ``gate``, the engine computes no more than that allows, on each attempt anew.
        """
        began = trio.current_time()
        card = self._library.resolve(request.model or None)
        course = LocalCourse(self._pool, card, self._node, request)

        def generate(_: Candidate, left: GenerationRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
            return self._pool.generate(left, card, gate)

        with Measure(self._metrics, trio.current_time, request=request.id, model=card.id) as measure:
            answer = Failover(request, course, generate, measure, began=began)
            async with begun(answer, measure):
                yield answer


class LocalCourse:
    """The :class:`meshnode.mesh.failover.Course` of one engine.

    When its worker dies before the first token, the engine that replaces it is asked once more.
    """

    def __init__(self, pool: Engines, card: ModelCard, node: str, request: GenerationRequest) -> None:
        self._pool = pool
        self._card = card
        self._node = node
        self._request = request
        self._candidate: Candidate | None = None
        self._route = Route(kind="local", model=card.id, node=node, attempts=0)

    @property
    def route(self) -> Route:
        """The road so far."""
        return self._route

    def next(self) -> Candidate:
        """The engine. Raises what refuses the request at the first attempt."""
        if self._candidate is None:
            self._candidate = self._chosen()
            self._route = msgspec.structs.replace(self._route, attempts=1, reason=self._candidate.reason)
        else:
            attempts = self._route.attempts + 1
            self._route = msgspec.structs.replace(self._route, attempts=attempts, reason="its first worker died")
        return self._candidate

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """Only a worker that died without a word is replaced."""
        if error.code == "worker_died" and not spoke and self._route.attempts < ATTEMPTS:
            return None
        return error

    def late(self) -> None:
        """Nothing is to be learnt from it."""

    def done(self, speed: Speed) -> None:
        """Nothing is to be learnt from it: the engine measures itself."""

    def _chosen(self) -> Candidate:
        state = self._pool.state(self._card.id)
        local = Local(node=self._node, card=self._card, state=state, draining=self._pool.draining)
        chosen = plan(self._request, local, draw=_first)
        if not chosen.candidates:
            raise refusal(self._request, self._card.id, chosen.rejections)
        return chosen.candidates[0]


def _first(of: int) -> int:
    """There is nothing to choose from."""
    return 0
