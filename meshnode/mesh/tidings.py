"""``/meshnode/offer/1``: hearing what connected peers offer, and telling them what is offered here.

Each node subscribes to every peer that it is connected to, and serves one subscription of each
(:mod:`meshnode.mesh.telling`). What is heard goes into the :class:`meshnode.mesh.offers.OfferBook`; what comes faster
than :data:`BURST` and :data:`RATE` allow waits where it is. Who breaks the protocol is named, and left alone for
:data:`LONGEST_PAUSE_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

from meshnode.domain import PeerId
from meshnode.errors import MeshnodeError, ProtocolViolation, StreamReset
from meshnode.mesh.announce import Announcer
from meshnode.mesh.offers import OfferBook
from meshnode.mesh.telling import Inbox, Telling
from meshnode.net.addressbook import believed, is_local
from meshnode.net.serving import report
from meshnode.net.transport import Stream, Transport
from meshnode.wire import offer as wire
from meshnode.wire.canonical import encode
from meshnode.wire.frames import pack

SILENCE_S: Final = 3 * wire.REFRESH_S
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
BURST: Final = 512
"""Offers taken from a peer without pause; beyond them :data:`RATE` a second."""
RATE: Final = 20.0

_EXPIRE_S: Final = 2.0
_AT_A_TIME: Final = 16  # signatures checked before others get their turn

log = structlog.get_logger()


class Tidings:
    """See the module. ``run`` it."""

    def __init__(
        self,
        transport: Transport,
        book: OfferBook,
        announcer: Announcer,
        network: bytes,
        *,
        wall_clock: Callable[[], float],
        violated: Callable[[PeerId, str], None],
        chance: Callable[[], float],
    ) -> None:
        """``network`` is its tag; ``wall_clock`` gives seconds since 1970, ``chance`` draws from 0..1.

        ``violated`` hears who broke the protocol, and how.
        """
        self._transport = transport
        self._book = book
        self._network = network
        self._wall_clock = wall_clock
        self._violated = violated
        self._chance = chance
        self._telling = Telling(book, announcer, network, violated)

    async def run(self) -> None:
        """Tell and hear until cancelled."""
        self._transport.set_handler(wire.PROTOCOL, self._telling.serve)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._expire)
                await self._watch(nursery)
        finally:
            self._transport.remove_handler(wire.PROTOCOL)
            for peer in self._telling.readers:
                self._telling.drop(peer)

    async def _watch(self, nursery: trio.Nursery) -> None:
        """Follow whoever is connected; forget what came from whoever is lost."""
        following: dict[PeerId, trio.CancelScope] = {}
        seen: frozenset[PeerId] = frozenset()
        while True:
            for peer in seen - following.keys():
                following[peer] = trio.CancelScope()
                nursery.start_soon(self._follow, peer, following[peer])
            for peer in following.keys() - seen:
                following.pop(peer).cancel()
                self._telling.drop(peer)
                self._book.lost(peer, trio.current_time())
            seen = await self._transport.wait_change(seen)

    async def _expire(self) -> None:
        while True:
            self._book.expire(trio.current_time())
            await trio.sleep(_EXPIRE_S)

    # --- hearing ------------------------------------------------------------------------------

    async def _follow(self, peer: PeerId, scope: trio.CancelScope) -> None:
        """Be subscribed to a connected peer; again, with back-off, when that ends."""
        with scope:
            pause = FIRST_PAUSE_S
            while True:
                began = trio.current_time()
                again_s = await self._heard(peer)
                self._book.hushed(peer)  # not when it is lost: by then it may be back
                if trio.current_time() - began > LONGEST_PAUSE_S:
                    pause = FIRST_PAUSE_S
                await trio.sleep(max(again_s, pause * (0.5 + self._chance() / 2)))
                pause = min(LONGEST_PAUSE_S, 2 * pause)

    async def _heard(self, peer: PeerId) -> float:
        """One subscription to its end; the seconds to wait at least before the next."""
        speaks = False
        try:
            async with self._transport.open_stream(peer, wire.PROTOCOL) as stream:
                speaks = True
                await self._hear(stream)
        except ProtocolViolation as error:
            if speaks:
                log.warning("offers_violation", peer=peer, reason=error.message)
                self._violated(peer, error.message)
            return LONGEST_PAUSE_S
        except MeshnodeError as error:
            log.debug("offers_ended", peer=peer, reason=error.code)
        except Exception as error:  # one peer must not end what is heard of others
            report(peer, wire.PROTOCOL, error)
            return LONGEST_PAUSE_S
        return 0.0

    async def _hear(self, stream: Stream) -> None:
        subscribe = encode(wire.Subscribe(version=wire.VERSION, network=self._network))
        await stream.write(pack(subscribe, limit=wire.FRAME))
        inbox, allowance = Inbox(stream, wire.FRAME), _Allowance()
        while (frame := await inbox.next(SILENCE_S)) is not None:
            message = wire.decode_message(frame)
            if isinstance(message, wire.Wrong):
                raise StreamReset(f"{stream.peer} tells us nothing: another network or version.")
            if not isinstance(message, wire.Told):
                raise ProtocolViolation("a subscriber was answered with a subscription.")
            await self._take(stream.peer, message)
            await allowance.spend(1 + len(message.offers) + len(message.gone) // _AT_A_TIME)

    async def _take(self, source: PeerId, told: wire.Told) -> None:
        await trio.lowlevel.checkpoint()
        self._book.gone(source, told.gone)
        local = is_local(self._transport, source)
        for number, passed in enumerate(told.offers, start=1):
            wall_ms = round(1000 * self._wall_clock())
            offer = self._book.take(passed, source=source, now=trio.current_time(), wall_ms=wall_ms)
            if offer is not None:
                peer = PeerId(offer.peer)
                self._transport.learn(peer, believed(peer, offer.addresses, local=local))
            if number % _AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()


class _Allowance:
    """So much work may be caused at once, and so much a second."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = trio.current_time()

    async def spend(self, amount: int) -> None:
        """Wait as long as it takes to make up for ``amount``."""
        now = trio.current_time()
        self._left = min(BURST, self._left + (now - self._at) * RATE) - amount
        self._at = now
        if self._left < 0:
            await trio.sleep(-self._left / RATE)
