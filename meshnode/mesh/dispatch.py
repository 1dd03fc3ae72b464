"""Carries out requests wherever they can be: here, or on a peer.

A name is resolved over this node's models and those that peers offer, a plan is made (:mod:`meshnode.mesh.route`), and
its candidates are tried until one answers (:mod:`meshnode.mesh.failover`, :mod:`meshnode.mesh.course`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import msgspec
import trio

from meshnode.domain import GenerationRequest, ModelCard, ModelId, PeerId, Privacy
from meshnode.errors import Draining, MeshnodeError, ModelNotFound
from meshnode.events import Event
from meshnode.mesh.answer import Answer
from meshnode.mesh.asker import Asker
from meshnode.mesh.course import MeshCourse
from meshnode.mesh.failover import Failover, begun
from meshnode.mesh.health import Health
from meshnode.mesh.local import Engines
from meshnode.mesh.measure import Measure
from meshnode.mesh.resolve import Catalogue, Meaning, Offers, Resolver, folded, resolve
from meshnode.mesh.route import Candidate, Local, Peer, plan
from meshnode.models.names import unaliased
from meshnode.net.transport import Link
from meshnode.observe import Metrics
from meshnode.wire.offer import ModelOffer, Offer

SEEK_S: Final = 3.0
"""How long a name that nobody near is known to serve is looked for in the directory."""
ELSEWHERE: Final = ModelId("mesh")
"""The metrics' label of models that are not here: their names are without number."""


class Surroundings(NamedTuple):
    """What dispatching needs of its node, whose peer id is ``node``.

    ``link`` says how a peer is connected; ``seek`` looks for providers of a name, so that ``offers`` knows them when it
    returns; ``entropy`` gives 64 random bits. ``engines`` is whether this node may answer itself.
    """

    node: PeerId
    library: Resolver
    pool: Engines
    offers: Offers
    asker: Asker
    health: Health
    link: Callable[[PeerId], Link | None]
    seek: Callable[[str], Awaitable[None]]
    entropy: Callable[[], int]
    metrics: Metrics
    aliases: Mapping[str, str]
    engines: bool = True


class MeshDispatcher:
    """A :class:`meshnode.mesh.answer.Dispatcher` over this node's engine and its peers."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._catalogue = Catalogue()
        self._seen = -1

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer; see the protocol. The deadline counts from here.

        Raises ModelNotFound (nobody has it), NobodyServes (nobody can now), CapabilityUnavailable and other
        RequestErrors, and where this node alone could answer what its engine says.
        """
        around, began = self._around, trio.current_time()
        if around.pool.draining:
            raise Draining("the node is stopping.", hint="Try another node, or this one again later.")
        meaning = await self._resolve(request)
        request = self._seeded(request)
        course = self._course(request, meaning)
        label = ELSEWHERE if meaning.card is None else meaning.card.id
        with Measure(around.metrics, trio.current_time, request=request.id, model=label) as measure:
            answer = Failover(request, course, partial(self._attempt, meaning.card), measure, began=began)
            async with begun(answer, measure):
                yield answer

    # --- which model --------------------------------------------------------------------------

    async def _resolve(self, request: GenerationRequest) -> Meaning:
        """What the request's model is. Raises ModelNotFound, after looking for it in the directory."""
        name, around = request.model, self._around
        try:
            return self._meaning(name)
        except ModelNotFound:
            if not name or request.privacy is not Privacy.STANDARD:
                raise
        patience = SEEK_S if request.deadline_s is None else min(SEEK_S, request.deadline_s)
        with trio.move_on_after(patience), contextlib.suppress(MeshnodeError):
            await around.seek(unaliased(name, around.aliases))
        return self._meaning(name)

    def _meaning(self, name: str) -> Meaning:
        around = self._around
        if self._seen != around.offers.version:
            self._seen = around.offers.version
            self._catalogue = Catalogue(around.offers.offers(trio.current_time()), but=around.node)
        return resolve(name, around.library if around.engines else _Empty(), self._catalogue, around.aliases)

    def _seeded(self, request: GenerationRequest) -> GenerationRequest:
        """With a seed, so that every attempt draws the same tokens."""
        if request.sampling.seed is not None:
            return request
        sampling = msgspec.structs.replace(request.sampling, seed=self._around.entropy() % 2**64)
        return msgspec.structs.replace(request, sampling=sampling)

    # --- who ----------------------------------------------------------------------------------

    def _course(self, request: GenerationRequest, meaning: Meaning) -> MeshCourse:
        around = self._around
        planned = plan(request, self._local(meaning.card), self._peers(meaning), draw=self._draw)
        return MeshCourse(
            request,
            meaning.model,
            planned,
            around.health,
            clock=trio.current_time,
            alternate=partial(self._alternate, request, meaning),
        )

    def _local(self, card: ModelCard | None) -> Local | None:
        if card is None:
            return None
        pool = self._around.pool
        return Local(node=self._around.node, card=card, state=pool.state(card.id), draining=pool.draining)

    def _peers(self, meaning: Meaning) -> Iterator[Peer]:
        """Who offers the model, from a place drawn at random on: of very many a plan looks at the first."""
        pairs = self._catalogue.providers(meaning.keys)
        start = self._draw(len(pairs)) if pairs else 0
        now = trio.current_time()
        for at in range(start, start + len(pairs)):
            peer, key = pairs[at % len(pairs)]
            if (found := self._peer(peer, key, now)) is not None:
                yield found

    def _peer(self, peer: PeerId, key: str, now: float) -> Peer | None:
        around = self._around
        offer = around.offers.offer(peer, now)
        model = None if offer is None else _model(offer, key)
        if offer is None or model is None:
            return None
        link = around.link(peer)
        return Peer(
            peer=peer,
            model=model,
            privacy=offer.privacy,
            max_body=offer.max_body,
            rtt_s=None if link is None else link.rtt_s,
            connected=link is not None,
            history=around.health.record(peer),
            avoided=around.health.avoided(peer, now),
        )

    def _alternate(self, request: GenerationRequest, meaning: Meaning, peer: PeerId) -> Candidate | None:
        """The candidate a peer makes that was named by another, if its offer is known."""
        now = trio.current_time()
        known = (self._peer(peer, key, now) for key in meaning.keys if peer != self._around.node)
        planned = plan(request, None, (found for found in known if found is not None), draw=self._draw)
        return planned.candidates[0] if planned.candidates else None

    def _draw(self, of: int) -> int:
        return self._around.entropy() % of

    # --- attempts -----------------------------------------------------------------------------

    def _attempt(
        self, card: ModelCard | None, candidate: Candidate, request: GenerationRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events of one attempt, not yet begun. Raises Draining when its offer is over."""
        around, peer = self._around, PeerId(candidate.node)
        if candidate.kind == "local":
            assert card is not None, "a local candidate has a card"
            return around.pool.generate(request, card)
        offer = around.offers.offer(peer, trio.current_time())
        model = None if offer is None else _model(offer, folded(candidate.model))
        if offer is None or model is None:
            raise Draining("it offers this model no more.")
        return around.asker.ask(peer, request, offer, model)


class _Empty:
    """The library of a node that answers nothing itself."""

    def cards(self) -> tuple[ModelCard, ...]:
        return ()

    def resolve(self, name: str | None) -> ModelCard:
        raise ModelNotFound("there are no models here.")


def _model(offer: Offer, key: str) -> ModelOffer | None:
    return next((model for model in offer.models if folded(model.id) == key), None)
