"""Keeping this node in company, ahead of need: who was joined, remembered, is on the same link, or in the directory.

Whoever is found is dialled, and judged by its own signed offer, which :mod:`meshnode.mesh.tidings` fetches; a hint that
leads to nobody, or to nobody who offers a model, is passed over for :data:`WANTING_S`, so that look-ups go on to
others. All this runs in the background. Only :meth:`Discovery.seek` is for a request, and only for one whose model
nobody known offers.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio

from meshnode.domain import PeerId
from meshnode.errors import ConfigError, MeshnodeError
from meshnode.mesh.announce import Announcer
from meshnode.mesh.offers import OfferBook
from meshnode.mesh.prune import prune
from meshnode.mesh.resolve import Catalogue
from meshnode.models.names import split_name
from meshnode.net.addressbook import whereabouts
from meshnode.net.directory import CATALOGUE, Directory, Hint
from meshnode.net.join import keep_connected
from meshnode.net.transport import Transport, parse_dial
from meshnode.wire.offer import Offer

USEFUL: Final = 8
"""Peers that offer models; with so many known the directory is asked seldom."""
SOON_S: Final = 1.0
OFTEN_S: Final = 30.0
SELDOM_S: Final = 120.0
DIALS: Final = 4
"""At the same time in the background, and again as many for requests that wait."""
DIAL_S: Final = 8.0
OFFER_S: Final = 3.0
"""How long a connected peer may take to tell what it offers."""
WANTING_S: Final = 120.0
HELD: Final = 64
"""Peers that discovery connected to; beyond them those that offer nothing are left, or nobody more is dialled."""
SPARE: Final = 8
"""Peers beyond :data:`HELD` for requests that wait."""
REMEMBERED: Final = 16
ROUNDS: Final = 8
PER_ROUND: Final = 16
SEEKING: Final = 16
"""Models sought at the same time; a request for one more is not helped."""
FIRST_PEER_S: Final = 3.0
"""How long a request waits for the first peer of a node that joined somebody."""
VAIN_S: Final = 3.0
"""A model that was sought in vain is not sought again sooner."""

_REMEMBERED_AT_ONCE = 2
_MOST_NOTED = 4096

Remember = Callable[[PeerId, tuple[str, ...]], Awaitable[None]]
"""Keeps whole addresses of a peer for the next start."""

log = structlog.get_logger()


class Discovery:
    """See the module. ``run`` it."""

    def __init__(
        self,
        transport: Transport,
        directory: Directory,
        book: OfferBook,
        announcer: Announcer,
        *,
        chance: Callable[[], float],
        remember: Remember,
        remembered: Sequence[Hint] = (),
        found: AsyncIterable[str] | None = None,
        belongs: Callable[[], bool] = lambda: True,
        talking: Callable[[PeerId], bool] = lambda peer: False,
    ) -> None:
        """``remembered`` are peers of earlier runs, newest first; ``found`` gives whole addresses on the same link.

        ``remember`` gets every peer that was reached and offers models; ``chance`` draws from 0..1. As long as this
        node ``belongs`` to no mesh nobody is looked for. Who is ``talking`` with it is not parted with.
        """
        self._transport = transport
        self._directory = directory
        self._book = book
        self._announcer = announcer
        self._chance = chance
        self._remember = remember
        self._remembered = tuple(remembered[:REMEMBERED])
        self._found = found
        self._belongs = belongs
        self._talking = talking
        self._joined: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._held: dict[PeerId, None] = {}  # a set that keeps its order
        self._wanting = _Noted()
        self._vain = _Noted()
        self._meeting: dict[PeerId, trio.Event] = {}
        self._seeking: set[str] = set()
        self._background, self._urgent = trio.Semaphore(DIALS), trio.Semaphore(DIALS)
        self._changed, self._announced = trio.Event(), trio.Event()
        book.listen(self._stir)
        announcer.listen(self._announce)

    # --- company ------------------------------------------------------------------------------

    def hold(self, address: str) -> None:
        """Stay connected to a peer that the owner named, from now on. Raises ConfigError for what is no address."""
        parse_dial(address)
        if address not in self._joined:
            scope = self._joined[address] = trio.CancelScope()
            if self._nursery is not None:
                self._nursery.start_soon(self._keep, address, scope)

    def let_go(self) -> None:
        """Hold no named peer any longer; connections that are there stay."""
        for scope in self._joined.values():
            scope.cancel()
        self._joined.clear()

    async def run(self) -> None:
        """Look around, and tell the directory what is served here, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for address, scope in self._joined.items():
                    nursery.start_soon(self._keep, address, scope)
                nursery.start_soon(self._revisit)
                nursery.start_soon(self._meet_neighbours)
                nursery.start_soon(self._publish)
                nursery.start_soon(prune, self._transport, self._is_useful, self._is_needed)
                await self._browse()
            finally:
                self._nursery = None

    async def _keep(self, address: str, scope: trio.CancelScope) -> None:
        with scope:
            await keep_connected(self._transport, [address], self._chance)

    async def _revisit(self) -> None:
        """Meet those of earlier runs, a few at a time."""
        waiting = list(self._remembered)

        async def visit() -> None:
            while waiting:
                await self._meet(waiting.pop(0), self._background)

        async with trio.open_nursery() as nursery:
            for _ in range(_REMEMBERED_AT_ONCE):
                nursery.start_soon(visit)

    async def _meet_neighbours(self) -> None:
        """Meet whoever is found on the same link."""
        gate = trio.Semaphore(DIALS)

        async def visit(hint: Hint) -> None:
            try:
                await self._meet(hint, self._background)
            finally:
                gate.release()

        if self._found is None:
            return
        async with trio.open_nursery() as nursery:
            async for address in self._found:
                try:
                    _, peer = parse_dial(address)
                except ConfigError:
                    continue
                await gate.acquire()
                nursery.start_soon(visit, Hint(peer=peer, addresses=(address,)))

    async def _publish(self) -> None:
        """Tell the directory what is served here whenever that changes."""
        told: frozenset[str] = frozenset()
        while True:
            if (names := names_of(self._announcer.offer)) != told:
                await self._directory.provide(names)
                told = names
            await self._announced.wait()

    async def _browse(self) -> None:
        """Look up who is there: soon, then often while few are known."""
        looked_at = -SELDOM_S
        while True:
            if not self._transport.peers:  # nobody could be asked
                await self._transport.wait_change(frozenset())
            await trio.sleep(SOON_S * (0.5 + self._chance()))
            now = trio.current_time()
            if self._useful() < USEFUL or now >= looked_at + SELDOM_S:
                looked_at = now
                await self._look_up(CATALOGUE, lambda: self._useful() >= USEFUL, self._background)
            await trio.sleep(OFTEN_S * (0.75 + self._chance() / 2))

    # --- for a request ------------------------------------------------------------------------

    async def seek(self, model: str) -> None:
        """Look for whoever serves ``model`` now. Returns once somebody known offers it, or nobody can be found.

        At once when somebody does already, or it was sought in vain a moment ago. It may be cancelled at any time;
        the look-up goes on for others that wait for the same.
        """
        await trio.lowlevel.checkpoint()
        name = name_of(model)
        if self._offered(name) or self._nursery is None:
            return
        if name not in self._seeking:
            if len(self._seeking) >= SEEKING or name in self._vain.at(trio.current_time()):
                return
            self._seeking.add(name)
            self._nursery.start_soon(self._seek, name)
        version = self._book.version
        while name in self._seeking:
            await self._changed.wait()
            if version != self._book.version:
                version = self._book.version
                if self._offered(name):
                    return

    async def _seek(self, name: str) -> None:
        try:
            if self._joined and not self._transport.peers:
                await self._have_company()
            await self._look_up(name, lambda: self._offered(name), self._urgent)
        finally:
            self._seeking.discard(name)
            if not self._offered(name):
                self._vain.note(name, trio.current_time() + VAIN_S)
            self._stir()

    async def _have_company(self) -> None:
        """This node has just started: wait a moment for the first whom it joined, and for what that one tells."""
        with trio.move_on_after(FIRST_PEER_S):
            await self._transport.wait_change(frozenset())
            while not self._book.offers(trio.current_time()):
                await self._changed.wait()

    # --- looking up and meeting ---------------------------------------------------------------

    async def _look_up(self, name: str, enough: Callable[[], bool], dials: trio.Semaphore) -> None:
        """Meet those who may serve ``name``, in rounds that pass over whom earlier ones found wanting."""
        tried: set[PeerId] = set()
        for _ in range(ROUNDS if self._belongs() else 0):
            besides = tried | self._wanting.at(trio.current_time())
            hints = [hint for hint in await self._directory.find(name, besides=besides) if hint.peer not in besides]
            hints.sort(key=lambda hint: (hint.peer not in self._transport.peers, self._chance()))
            if not hints:
                return
            async with trio.open_nursery() as nursery:
                for hint in hints[:PER_ROUND]:
                    tried.add(hint.peer)
                    nursery.start_soon(self._meet, hint, dials)
            if enough():
                return

    async def _meet(self, hint: Hint, dials: trio.Semaphore) -> None:
        """Connect to a peer and see what it offers; together with whoever is at it already."""
        peer = hint.peer
        self._transport.learn(peer, hint.addresses)
        if peer == self._transport.peer_id or self._wanting.has(peer, trio.current_time()):
            return
        if peer in self._meeting:
            await self._meeting[peer].wait()
            return
        over = self._meeting[peer] = trio.Event()
        try:
            async with dials:
                reached = await self._reach(peer, HELD + (SPARE if dials is self._urgent else 0))
            if reached is None:
                return
            if reached and await self._offers_something(peer):
                await self._note(peer)
            else:
                self._wanting.note(peer, trio.current_time() + WANTING_S)
        finally:
            del self._meeting[peer]
            over.set()

    async def _reach(self, peer: PeerId, most: int) -> bool | None:
        """Whether ``peer`` is connected in the end; None when there was no room to try."""
        if peer in self._transport.peers:
            return True
        if not await self._make_room(most):
            return None
        with trio.move_on_after(DIAL_S):
            try:
                await self._transport.reach(peer)
            except MeshnodeError as error:
                log.debug("hint_leads_nowhere", peer=peer, reason=error.code)
        if peer not in self._transport.peers:
            return False
        self._held[peer] = None
        return True

    async def _make_room(self, most: int) -> bool:
        """Whether one more may be held; for that, who offers nothing is left."""
        self._held = {peer: None for peer in self._held if peer in self._transport.peers}
        if len(self._held) < most:
            return True
        useless = [peer for peer in self._held if not self._is_needed(peer) and not self._is_useful(peer)]
        if not useless:
            return False
        self._held.pop(useless[0])
        await self._transport.disconnect(useless[0])
        return True

    async def _offers_something(self, peer: PeerId) -> bool:
        with trio.move_on_after(OFFER_S):
            while self._book.offer(peer, trio.current_time()) is None:
                await self._changed.wait()
        return self._is_useful(peer)

    async def _note(self, peer: PeerId) -> None:
        """Have a useful peer remembered: where it was reached, and where it says that it is."""
        offer = self._book.offer(peer, trio.current_time())
        addresses = whereabouts(self._transport, peer, offer.addresses if offer is not None else ())
        try:
            if addresses:
                await self._remember(peer, addresses)
        except MeshnodeError as error:
            log.warning("peer_not_remembered", peer=peer, reason=error.code)

    # --- what is known ------------------------------------------------------------------------

    def _is_needed(self, peer: PeerId) -> bool:
        return self._talking(peer) or any(parse_dial(address)[1] == peer for address in self._joined)

    def _is_useful(self, peer: PeerId) -> bool:
        offer = self._book.offer(peer, trio.current_time())
        return offer is not None and bool(offer.models)

    def _useful(self) -> int:
        return sum(bool(offer.models) for offer in self._book.offers(trio.current_time()))

    def _offered(self, name: str) -> bool:
        return bool(Catalogue(self._book.offers(trio.current_time())).matches(name))

    def _stir(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _announce(self) -> None:
        self._announced.set()
        self._announced = trio.Event()


class _Noted:
    """Names that hold until a time; beyond a bound the oldest are forgotten."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, name: str, until: float) -> None:
        self._until.pop(name, None)
        self._until[name] = until
        if len(self._until) > _MOST_NOTED:
            del self._until[next(iter(self._until))]

    def has(self, name: str, now: float) -> bool:
        return self._until.get(name, now) > now

    def at(self, now: float) -> set[PeerId]:
        self._until = {name: until for name, until in self._until.items() if until > now}
        return {PeerId(name) for name in self._until}


def name_of(model: str) -> str:
    """What the directory and offers call the model that somebody asks for."""
    base, label = split_name(model)
    return base if label is None else f"{base}:{label}"


def names_of(offer: Offer) -> frozenset[str]:
    """What the directory is told of who offers this: each model by its id and by its name alone, and the catalogue."""
    ids = [model.id.lower() for model in offer.models]
    names = frozenset(name for each in ids for name in (each, each.rpartition(":")[0]) if name)
    return names | {CATALOGUE} if names else names
