"""Carries out requests wherever they can be: here, or on a peer.

The models that its names stand for are planned one after the other (:mod:`meshnode.mesh.planning`), and the candidates
of each are tried until one answers (:mod:`meshnode.mesh.failover`, :mod:`meshnode.mesh.ladder`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import msgspec
import trio

from meshnode.domain import CallerId, GenerationRequest, ModelId, PeerId, Preference
from meshnode.errors import Draining
from meshnode.events import Event
from meshnode.mesh.answer import Answer, Route
from meshnode.mesh.budget import Budget
from meshnode.mesh.failover import Failover, Speed, begun
from meshnode.mesh.ladder import Ladder, Rung
from meshnode.mesh.measure import Measure
from meshnode.mesh.planning import Planner, offered
from meshnode.mesh.planning import Surroundings as Surroundings  # for those who build a dispatcher
from meshnode.mesh.resolve import folded
from meshnode.mesh.route import Candidate
from meshnode.mesh.samples import Samples

ELSEWHERE: Final = ModelId("mesh")
"""The metrics' label of models that are not here: their names are without number."""


class MeshDispatcher:
    """A :class:`meshnode.mesh.answer.Dispatcher` over this node's engine and its peers."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._planner = Planner(around)
        self.samples = Samples()
        """How fast the answers lately were."""

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer; see the protocol. The deadline counts from here.

        Raises ModelNotFound (nobody has it), NobodyServes (nobody can now), CapabilityUnavailable and other
        RequestErrors, and where this node alone could answer what its engine says.
        """
        around, began = self._around, trio.current_time()
        if around.pool.draining:
            raise Draining("the node is stopping.", hint="Try another node, or this one again later.")
        course = _Noted(await self._planner.rungs(request), partial(self._answered, request.caller, request.session))
        request = self._bare(request)
        label = ELSEWHERE if course.card is None else course.card.id
        with Measure(around.metrics, trio.current_time, request=request.id, model=label) as measure:
            attempt = partial(self._attempt, course, measure, Budget())
            answer = Failover(request, course, attempt, measure, began=began)
            async with begun(answer, measure):
                yield answer

    def _answered(self, caller: CallerId, session: str | None, route: Route, speed: Speed) -> None:
        self.samples.note(route.model, speed)
        self._planner.sessions.answered(caller, session, route)

    def explain(self, request: GenerationRequest) -> Iterator[Rung]:
        """The models that a request would be tried with, and the plan of each; nothing is asked of anybody."""
        return self._planner.known(request)

    def _bare(self, request: GenerationRequest) -> GenerationRequest:
        """The request without what chose who answers it; with a seed, so that every attempt draws the same tokens."""
        sampling = request.sampling
        if sampling.seed is None:
            sampling = msgspec.structs.replace(sampling, seed=self._around.entropy() % 2**64)
        return msgspec.structs.replace(request, sampling=sampling, fallbacks=(), provider=Preference())

    def _attempt(
        self, course: Ladder, measure: Measure, budget: Budget, candidate: Candidate, request: GenerationRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events of one attempt, not yet begun. Raises Draining when its offer is over, or what the budget says."""
        around, peer, card = self._around, PeerId(candidate.node), course.card
        measure.model = ELSEWHERE if card is None else card.id
        if candidate.kind == "local":
            assert card is not None, "a local candidate has a card"
            return around.pool.generate(request, card)
        offer = around.offers.offer(peer, trio.current_time())
        model = None if offer is None else offered(offer, folded(candidate.model))
        if offer is None or model is None:
            raise Draining("it offers this model no more.")
        return budget.spending(around.asker.ask(peer, budget.within(request, model.prices), offer, model))


class _Noted(Ladder):
    """A ladder that tells which road an answer came, and how fast."""

    def __init__(self, rungs: Iterator[Rung], answered: Callable[[Route, Speed], None]) -> None:
        super().__init__(rungs)
        self._answered = answered

    def done(self, speed: Speed) -> None:
        """Whoever was asked last has answered."""
        super().done(speed)
        self._answered(self.route, speed)
