"""Which models a request may be answered by, and who can answer with each: names and modes made into rungs.

A name is resolved over this node's models and those that peers offer; a name that none has may be a router mode
(:mod:`meshnode.mesh.modes`). Each model is planned (:mod:`meshnode.mesh.route`) only when its turn comes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec
import trio

from meshnode.domain import GenerationRequest, ModelCard, ModelId, PeerId, Preference, Privacy
from meshnode.errors import MeshnodeError, ModelNotFound
from meshnode.mesh.asker import Asker
from meshnode.mesh.course import MeshCourse
from meshnode.mesh.estimate import Needs, needs
from meshnode.mesh.health import Health
from meshnode.mesh.ladder import Rung
from meshnode.mesh.local import Engines
from meshnode.mesh.modes import (
    AUTO,
    Mode,
    Option,
    choose,
    is_near,
    mode_of,
    nothing,
    traits_here,
    traits_of,
    wish_of,
)
from meshnode.mesh.resolve import Catalogue, Meaning, Offers, Resolver, folded, resolve
from meshnode.mesh.route import Candidate, Local, Peer, plan
from meshnode.mesh.sticky import Sessions, kept
from meshnode.models.names import unaliased
from meshnode.net.transport import Link
from meshnode.observe import Metrics
from meshnode.wire.offer import ModelOffer, Offer

SEEK_S: Final = 3.0
"""How long names that nobody near is known to serve are looked for in the directory."""
MOST_SOUGHT: Final = 4
"""Names of one request that are looked for in the directory."""
MOST_MODELS: Final = 24
"""Models of peers that a mode compares."""
MOST_OF_EACH: Final = 4
"""Providers of each that it looks at."""


class Surroundings(NamedTuple):
    """What dispatching needs of its node, whose peer id is ``node``.

    ``link`` says how a peer is connected; ``seek`` looks for providers of a name, so that ``offers`` knows them when it
    returns; ``entropy`` gives 64 random bits. ``engines`` is whether this node may answer itself. ``default_model`` is
    what a request asks for that names none.
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
    default_model: str = AUTO


Asked = Meaning | Mode | MeshnodeError
"""What a name came to."""


class Planner:
    """Plans requests over what its node knows now."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.sessions = Sessions(trio.current_time)
        """Where sessions are."""
        self._catalogue = Catalogue()
        self._seen = -1

    async def rungs(self, request: GenerationRequest) -> Iterator[Rung]:
        """The models to try, in their order; names that nobody knows are looked for if there is no other."""
        asked = self._asked(request)
        if request.privacy is Privacy.STANDARD and all(isinstance(found, MeshnodeError) for _, found in asked):
            await self._seek(request, [name for name, _ in asked if name])
            asked = self._asked(request)
        return self._made(request, asked)

    def known(self, request: GenerationRequest) -> Iterator[Rung]:
        """The same of what is known without looking any further."""
        return self._made(request, self._asked(request))

    # --- which model --------------------------------------------------------------------------

    def _asked(self, request: GenerationRequest) -> list[tuple[str, Asked]]:
        """What each name of a request means, each name once."""
        first = [request.model] if request.model or not request.fallbacks else []
        names = dict.fromkeys([*first, *request.fallbacks])
        return [(name, self._meant(name)) for name in names]

    def _meant(self, name: str) -> Asked:
        wanted = name or self._around.default_model
        try:
            return self._meaning(wanted)
        except ModelNotFound as error:
            try:
                return mode_of(unaliased(wanted, self._around.aliases)) or error
            except ModelNotFound as unknown:
                return unknown

    def _meaning(self, name: str) -> Meaning:
        around = self._around
        if self._seen != around.offers.version:
            self._seen = around.offers.version
            self._catalogue = Catalogue(around.offers.offers(trio.current_time()), but=around.node)
        return resolve(name, self._library, self._catalogue, around.aliases)

    async def _seek(self, request: GenerationRequest, names: list[str]) -> None:
        patience = SEEK_S if request.deadline_s is None else min(SEEK_S, request.deadline_s)
        with trio.move_on_after(patience):
            for name in names[:MOST_SOUGHT]:
                with contextlib.suppress(MeshnodeError):
                    await self._around.seek(unaliased(name, self._around.aliases))

    # --- rungs ----------------------------------------------------------------------------------

    def _made(self, request: GenerationRequest, asked: list[tuple[str, Asked]]) -> Iterator[Rung]:
        """The rungs of all names; a mode gives no model that was there before it."""
        made: set[ModelId] = set()
        for name, found in asked:
            if isinstance(found, Mode):
                for rung in self._of_mode(request, name, found, frozenset(made)):
                    made.add(rung.model)
                    yield rung
            elif isinstance(found, Meaning):
                made.add(found.model)
                yield self._rung(request, found, name or found.model)
            else:
                yield Rung(name or self._around.default_model, ModelId(name), error=found)

    def _of_mode(self, request: GenerationRequest, name: str, mode: Mode, before: frozenset[ModelId]) -> Iterator[Rung]:
        need, wish = needs(request), wish_of(mode, request.provider)
        request = msgspec.structs.replace(request, provider=wish)
        here = [option for option in self._here(need, mode) if option.model not in before]
        near: list[ModelId] = []
        place = self.sessions.place(request.caller, request.session)
        held = None if place is None else place.model
        if mode.name == AUTO:  # where something near will do, peers are looked at only when that fails
            for chosen in choose(mode, need, wish, here, held):
                if is_near(chosen):
                    near.append(chosen.model)
                    yield self._chosen(request, mode, chosen.model)
                    if not _open(wish):
                        return
        tried = before.union(near)
        options = [one for one in itertools.chain(here, self._there(need, mode, here)) if one.model not in tried]
        for chosen in choose(mode, need, wish, options, held):
            yield self._chosen(request, mode, chosen.model)
            if not _open(wish):
                return
        if not options and not tried:
            yield Rung(name or str(mode), ModelId(name), error=self._lacking(mode, need))

    def _chosen(self, request: GenerationRequest, mode: Mode, model: ModelId) -> Rung:
        return self._rung(request, self._meaning(model), f"{mode} = {model}", note=str(mode))

    def _lacking(self, mode: Mode, need: Needs) -> MeshnodeError:
        if not self._library.cards() and not self._catalogue.ids():
            try:
                self._meaning("")
            except ModelNotFound as error:
                return error
        return nothing(mode, traits_of(need, mode))

    def _here(self, need: Needs, mode: Mode) -> list[Option]:
        """This node's models that have what is needed, with the peers that offer them too."""
        traits, default = traits_of(need, mode), self._default()
        return [
            Option(card.id, self._local(card), self._some(self._catalogue.matches(card.id)), card.id == default)
            for card in self._library.cards()
            if traits <= traits_here(card)
        ]

    def _there(self, need: Needs, mode: Mode, here: list[Option]) -> Iterator[Option]:
        """Those that only peers offer."""
        known = {folded(option.model) for option in here}
        for key in self._catalogue.having(traits_of(need, mode), MOST_MODELS, largest=mode.name == "best"):
            if key not in known:
                yield Option(ModelId(key), None, self._some((key,)))

    def _some(self, keys: tuple[str, ...]) -> list[Peer]:
        meaning = Meaning(model=ModelId(keys[0] if keys else ""), keys=keys)
        return list(itertools.islice(self._peers(meaning), MOST_OF_EACH))

    def _default(self) -> ModelId | None:
        try:
            return self._library.resolve(None).id
        except ModelNotFound:
            return None

    @property
    def _library(self) -> Resolver:
        return self._around.library if self._around.engines else _Empty()

    # --- who ----------------------------------------------------------------------------------

    def _rung(self, request: GenerationRequest, meaning: Meaning, name: str, *, note: str = "") -> Rung:
        around, wish = self._around, request.provider
        planned = plan(request, self._local(meaning.card), self._peers(meaning), draw=self._draw)
        if not wish.order:
            place = self.sessions.place(request.caller, request.session)
            planned = msgspec.structs.replace(planned, candidates=kept(planned.candidates, place))
        course = MeshCourse(
            request,
            meaning.model,
            planned,
            around.health,
            clock=trio.current_time,
            alternate=partial(self._alternate, request, meaning) if _open(wish) else _nobody,
        )
        return Rung(name, meaning.model, course, meaning.card, planned, note)

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
        model = None if offer is None else offered(offer, key)
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


def offered(offer: Offer, key: str) -> ModelOffer | None:
    """The model of an offer whose folded id is ``key``."""
    return next((model for model in offer.models if folded(model.id) == key), None)


class _Empty:
    """The library of a node that answers nothing itself."""

    def cards(self) -> tuple[ModelCard, ...]:
        return ()

    def resolve(self, name: str | None) -> ModelCard:
        raise ModelNotFound("there are no models here.")


def _open(wish: Preference) -> bool:
    """Whether somebody may be asked whom the plan does not have."""
    return wish.fallbacks or bool(wish.order)


def _nobody(_: PeerId) -> Candidate | None:
    return None
