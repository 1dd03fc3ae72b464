"""This node among its peers: everything of the mesh, built on a transport and nested so that closing is its reverse.

    what is remembered › books › offers › directory › sessions with providers › discovery, tidings, serving

:func:`open_peering` is handed the world and gives a :class:`Peering`: what carries out requests
(:attr:`Peering.dispatcher`), and the mesh as its owner sees and steers it (:class:`meshnode.mesh.view.MeshView`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import trio

from meshnode.config import Settings
from meshnode.domain import GenerationRequest, ModelCard, ModelId, PeerId
from meshnode.engine.pool import Pool
from meshnode.errors import NotFound, Unreachable
from meshnode.identity import Identity, network_tag, public_key_of, verify
from meshnode.ledger.accounts import CreditsView
from meshnode.ledger.book import Book
from meshnode.ledger.pricing import prices_for
from meshnode.mesh.admission import Limits, Places
from meshnode.mesh.announce import Announcer
from meshnode.mesh.ask import Asking, Desk, open_asking
from meshnode.mesh.charges import Charges
from meshnode.mesh.discover import Discovery
from meshnode.mesh.dispatch import MeshDispatcher, Surroundings
from meshnode.mesh.greet import Self
from meshnode.mesh.health import Health
from meshnode.mesh.lending import Lending
from meshnode.mesh.local import LocalDispatcher
from meshnode.mesh.offers import OfferBook
from meshnode.mesh.remember import Remembered
from meshnode.mesh.resolve import Resolver
from meshnode.mesh.samples import Pace
from meshnode.mesh.serve import Kitchen, Provider, here
from meshnode.mesh.shown import mesh_models, peer_view, receipt_view, rung_view
from meshnode.mesh.tidings import Tidings
from meshnode.mesh.view import MeshModel, PeerView, ReceiptView, RungView, ServedView
from meshnode.net.directory import Directory, Hint
from meshnode.net.doorkeeper import Doorkeeper
from meshnode.net.lan import open_lan
from meshnode.net.transport import Transport, parse_dial
from meshnode.observe import Metrics
from meshnode.storage.database import Database
from meshnode.wire import messages as m

DAY_S: Final = 86400
LONGEST_CONTEXT: Final = 32768
"""Tokens of context that a model is loaded with unless its owner says otherwise."""
FEWEST_OPEN: Final = 64
"""Requests that a peer may have open at least; how many of them run is another question."""
DRAIN_S: Final = 2.0
ACQUAINTED_S: Final = 3.0
"""How long a peer that is joined may take to tell what it offers, before it is believed to be of this network."""
NEIGHBOURS: Final = 64


class World(NamedTuple):
    """What the mesh is built on. ``psk`` is the private network's key, ``entropy`` gives random bytes.

    ``draining`` is set when the node stops; ``wall_clock`` gives seconds since 1970, ``chance`` draws from 0..1;
    ``aside`` runs what would keep everybody waiting.
    """

    settings: Settings
    identity: Identity
    psk: bytes | None
    transport: Transport
    door: Doorkeeper
    directory: Callable[[], AbstractAsyncContextManager[Directory]]
    database: Database
    library: Resolver
    pool: Pool
    metrics: Metrics
    software: str
    draining: trio.Event
    entropy: Callable[[int], bytes]
    chance: Callable[[], float]
    wall_clock: Callable[[], float]
    aside: Callable[[Callable[[], GenerationRequest]], Awaitable[GenerationRequest]] = here


@asynccontextmanager
async def open_peering(world: World) -> AsyncIterator[Peering]:
    """The mesh around a node; leaving the block ends every session. Raises what the database raises."""
    remembered = Remembered(world.database, world.wall_clock)
    joined = await remembered.joined()
    seen = await remembered.recent(NEIGHBOURS)
    overrides = await remembered.served()
    async with trio.open_nursery() as nursery:
        parts = _Parts(world, remembered, overrides, nursery)
        async with world.directory() as directory, open_asking(parts.desk()) as asking:
            peering = Peering(parts, directory, asking, joined, [Hint(peer=p, addresses=a) for p, a in seen])
            nursery.start_soon(peering.run)
            yield peering
            nursery.cancel_scope.cancel()


class _Parts:
    """What needs no directory and no session: books, offers, histories, rules."""

    def __init__(
        self, world: World, remembered: Remembered, overrides: Mapping[ModelId, bool], nursery: trio.Nursery
    ) -> None:
        settings = world.settings
        self.world = world
        self.remembered = remembered
        self.network = network_tag(settings.net.network, world.psk)
        self.nursery = nursery
        self.health = Health(trio.current_time)
        self.offers = OfferBook(world.identity.peer_id, self.network, verify, public_key_of)
        self.lending = Lending(settings.serve.models, overrides, nothing=settings.serve.client_only)
        self.book = Book(
            world.database,
            world.identity,
            self.network,
            day=lambda: int(world.wall_clock() // DAY_S),
            entropy=world.entropy,
        )
        self.us = Self(
            world.identity,
            self.network,
            world.software,
            max(FEWEST_OPEN, 2 * settings.serve.per_peer),
            world.entropy,
        )
        self.charges = Charges(world.entropy, world.wall_clock)
        self.provider = self._provider()
        self.announcer = self._announcer()
        self.news = trio.Event()
        self.offers.listen(self._stir)

    def _stir(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def _announcer(self) -> Announcer:
        world = self.world
        return Announcer(
            world.identity,
            self.network,
            cards=world.library.cards,
            state=world.pool.state,
            served=self.lending.lends,
            prices=lambda card: prices_for(card.parameters),
            context_of=self._context_of,
            addresses=lambda: world.transport.addresses,
            draining=lambda: world.draining.is_set() or world.pool.draining or self.provider.troubled,
            wall_clock=world.wall_clock,
            slots=world.settings.engine.slots,
            max_body=m.MAX_BODY,
            software=world.software,
        )

    def _context_of(self, card: ModelCard) -> int:
        return self.world.settings.engine.context or min(card.context_length, LONGEST_CONTEXT)

    def desk(self) -> Desk:
        """What asking needs."""
        return Desk(self.us, self.world.transport, self.book, self.violated, self.charges)

    def _provider(self) -> Provider:
        world, serve = self.world, self.world.settings.serve
        local = LocalDispatcher(world.library, world.pool, world.metrics, node=world.identity.peer_id)
        places = Places(Limits(per_peer=serve.per_peer, requests=serve.requests))
        return Provider(
            Kitchen(self.us, local, lambda: self.announcer.offer, self.book, places, self.violated, world.aside)
        )

    def violated(self, peer: PeerId, reason: str) -> None:
        """A peer broke a protocol: it is let be for a while."""
        self.world.door.block(peer, self.health.violated(peer, reason))
        self.nursery.start_soon(self.world.transport.disconnect, peer)


class Peering:
    """The running mesh. Made by :func:`open_peering`."""

    def __init__(
        self, parts: _Parts, directory: Directory, asking: Asking, joined: Sequence[str], seen: Sequence[Hint]
    ) -> None:
        world = parts.world
        self._parts = parts
        self._world = world
        self._joined = list(joined)
        self._belongs = trio.Event()
        self._looking = trio.CancelScope()
        self._provider = parts.provider
        send, neighbours = trio.open_memory_channel[str](NEIGHBOURS)
        self._neighbours = send
        self._tidings = Tidings(
            world.transport,
            parts.offers,
            parts.announcer,
            parts.network,
            wall_clock=world.wall_clock,
            violated=parts.violated,
            chance=world.chance,
        )
        self._discovery = Discovery(
            world.transport,
            directory,
            parts.offers,
            parts.announcer,
            chance=world.chance,
            remember=parts.remembered.saw,
            remembered=seen if self._member() else (),
            found=neighbours,
            belongs=self._member,
            talking=lambda peer: asking.talks(peer) or self._provider.talks(peer),
        )
        for address in (*world.settings.net.join, *joined):
            self._discovery.hold(address)
        self.dispatcher = MeshDispatcher(self._surroundings(asking))
        """Carries out requests, here or at a peer."""
        self._admit()

    def _surroundings(self, asking: Asking) -> Surroundings:
        world, parts = self._world, self._parts
        return Surroundings(
            node=world.identity.peer_id,
            library=world.library,
            pool=world.pool,
            offers=parts.offers,
            asker=asking,
            health=parts.health,
            link=world.transport.link,
            seek=self._discovery.seek,
            entropy=lambda: int.from_bytes(world.entropy(8), "big"),
            metrics=world.metrics,
            aliases=world.settings.aliases,
            engines=world.settings.engine.enabled,
            default_model=world.settings.default_model,
        )

    async def run(self) -> None:
        """Meet peers, tell and hear offers, serve, until cancelled."""
        if not self._world.settings.serve.client_only:
            self._world.transport.set_handler(m.PROTOCOL, self._provider.handle)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._parts.announcer.run)
                nursery.start_soon(self._tidings.run)
                nursery.start_soon(self._discovery.run)
                nursery.start_soon(self._meet_neighbours)
        finally:
            self._world.transport.remove_handler(m.PROTOCOL)

    async def drain(self) -> None:
        """Serve nothing any more; wait a moment until callers have paid for what they got."""
        self._parts.announcer.look()
        with trio.move_on_after(DRAIN_S):
            await self._provider.quiet()

    async def _meet_neighbours(self) -> None:
        """Look around on the local network, as long as this node belongs to a mesh."""
        transport, tag = self._world.transport, self._parts.network.hex()
        while self._world.settings.net.lan:
            await self._belongs.wait()
            with trio.CancelScope() as self._looking:
                async with open_lan(transport.peer_id, transport.addresses, tag) as lan:
                    async for address in lan.found:
                        await self._neighbours.send(address)

    # --- membership ---------------------------------------------------------------------------

    def _member(self) -> bool:
        net = self._world.settings.net
        return bool(net.join or net.open or net.private_network or self._joined)

    def _admit(self) -> None:
        """Let peers in, or only those on this machine."""
        self._world.door.open = self._member()
        if self._member():
            self._belongs.set()

    @property
    def joined(self) -> bool:
        """Whether this node belongs to a mesh."""
        return self._member()

    async def join(self, address: str) -> PeerId:
        """Connect, now and at each start. Raises ConfigError, Unreachable, or what the database raises."""
        parse_dial(address)
        peer = await self._world.transport.connect(address)
        await self._make_acquaintance(peer)
        await self._parts.remembered.add(address)
        self._joined.append(address)
        self._discovery.hold(address)
        self._admit()
        return peer

    async def _make_acquaintance(self, peer: PeerId) -> None:
        """Hear what a peer offers, which only one of this network tells. Raises Unreachable when it is lost instead."""
        transport, parts = self._world.transport, self._parts
        with trio.move_on_after(ACQUAINTED_S):
            while peer in (now := transport.peers) and parts.offers.offer(peer, trio.current_time()) is None:
                news = parts.news
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_first, nursery.cancel_scope, partial(transport.wait_change, now))
                    nursery.start_soon(_first, nursery.cancel_scope, news.wait)
        if peer not in transport.peers:
            why = parts.health.record(peer).last_failure or "it hung up"
            raise Unreachable(f"{peer} was reached, and lost at once ({why}).", hint="Is it of the same --network?")

    async def leave(self) -> int:
        """Forget every address joined or remembered; gives how many. What the configuration joins stays."""
        forgotten = await self._parts.remembered.forget_all()
        self._joined.clear()
        self._discovery.let_go()
        for address in self._world.settings.net.join:
            self._discovery.hold(address)
        self._admit()
        if not self._member():
            self._belongs = trio.Event()
            self._looking.cancel()
            await self._part()
        return forgotten

    async def _part(self) -> None:
        """Hang up on whom this node called, and on who would not be let in now."""
        transport = self._world.transport
        for peer in transport.peers:
            link = transport.link(peer)
            if link is not None and (link.outbound or not self._world.door(link.address.split("/")[2])):
                await transport.disconnect(peer)

    # --- what is shown ------------------------------------------------------------------------

    def models(self) -> Sequence[MeshModel]:
        """Models that peers serve now."""
        return mesh_models(self._parts.offers.offers(trio.current_time()), but=self._world.identity.peer_id)

    def peers(self) -> Sequence[PeerView]:
        """Peers that are connected, whose offers are known, or who are banned; connected ones first."""
        now, parts, transport = trio.current_time(), self._parts, self._world.transport
        known = {PeerId(offer.peer) for offer in parts.offers.offers(now)} | parts.health.shunned(now)
        connected = transport.peers
        return [
            peer_view(
                peer,
                link=transport.link(peer),
                offer=parts.offers.offer(peer, now),
                source=parts.offers.source(peer, now),
                age_s=parts.offers.age_s(peer, now),
                history=parts.health.record(peer),
                avoided=parts.health.avoided(peer, now),
            )
            for peer in (*sorted(connected), *sorted(known - connected))
        ]

    async def credits(self) -> CreditsView:
        """What was earned and spent."""
        return await self._parts.book.accounts()

    async def receipt(self, id_: str) -> ReceiptView:
        """What one request cost. Raises NotFound, or what the database raises."""
        charged = self._parts.charges.find(id_)
        if charged is None:
            what = "no such receipt is remembered: ids last as long as the node runs, and not for ever."
            raise NotFound(what, hint="The sums are at /api/credits.")
        return receipt_view(charged, await self._parts.book.confirmed(charged.provider, charged.chan))

    def pace(self, model: ModelId) -> Pace:
        """How fast answers with a model were lately."""
        return self.dispatcher.samples.pace(model)

    def explain(self, request: GenerationRequest) -> Sequence[RungView]:
        """The plan of a request."""
        return [rung_view(rung) for rung in self.dispatcher.explain(request)]

    def served(self) -> Sequence[ServedView]:
        """Every model of this node, and whether strangers may use it."""
        lends = self._parts.lending.lends
        return [ServedView(id=card.id, served=lends(card.id)) for card in self._world.library.cards()]

    async def serve(self, model: str, on: bool) -> ServedView:
        """Let strangers use a model, or no more. Raises ModelNotFound, or what the database raises."""
        card = self._world.library.resolve(model)
        await self._parts.remembered.set_served(card.id, on)
        self._parts.lending.say(card.id, on)
        self._parts.announcer.look()
        return ServedView(id=card.id, served=self._parts.lending.lends(card.id))


async def _first(scope: trio.CancelScope, wait: Callable[[], Awaitable[object]]) -> None:
    """Wait, and end whatever else waits in ``scope``."""
    await wait()
    scope.cancel()
