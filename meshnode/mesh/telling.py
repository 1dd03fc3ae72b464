"""``/meshnode/offer/1``, the telling end: what each subscriber is told, and when.

Told is this node's own offer, whenever it is signed anew, and of others what :class:`meshnode.mesh.offers.OfferBook`
has to pass on: at once when it is new or more than its load changed, else only before it is over there. A reader is
told of changes together, at most every :data:`PACE_S`; when nothing changes an empty frame each ``REFRESH_S`` says that
we are there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import structlog
import trio

from meshnode.domain import PeerId
from meshnode.errors import ProtocolViolation, StreamReset
from meshnode.mesh.announce import Announcer
from meshnode.mesh.asker import PeerHung
from meshnode.mesh.offers import OfferBook, Voucher
from meshnode.net.transport import Stream
from meshnode.wire import offer as wire
from meshnode.wire.canonical import encode
from meshnode.wire.frames import FrameReader, pack

PACE_S: Final = 0.5
SUBSCRIBE_S: Final = 10.0
"""How long a caller may take to say what it wants."""
SLOW_S: Final = 20.0
"""A reader that does not take a frame within this time is dropped."""
RENEW_S: Final = wire.REFRESH_S + 15.0
"""An offer that is passed on is told again when it is good for no longer than this."""

_SUBSCRIBE_FRAME: Final = 1024
_MOST_GONE: Final = 1024
_AROUND_OFFER: Final = 96  # bytes of a signature and of what holds the parts together
_AROUND_NAME: Final = 8

T = TypeVar("T")

log = structlog.get_logger()


class Telling:
    """Serves subscriptions, one of each peer."""

    def __init__(
        self, book: OfferBook, announcer: Announcer, network: bytes, violated: Callable[[PeerId, str], None]
    ) -> None:
        """``network`` is its tag; ``violated`` hears who broke the protocol, and how."""
        self._book = book
        self._announcer = announcer
        self._network = network
        self._violated = violated
        self._readers: dict[PeerId, trio.CancelScope] = {}
        self._changed = trio.Event()
        self._mark = (-1, -1)
        book.listen(self._stir)
        announcer.listen(self._stir)

    @property
    def readers(self) -> frozenset[PeerId]:
        """Who is subscribed."""
        return frozenset(self._readers)

    def drop(self, peer: PeerId) -> None:
        """Tell ``peer`` nothing more until it subscribes again."""
        if peer in self._readers:
            self._readers[peer].cancel()

    async def serve(self, stream: Stream) -> None:
        """One subscription to us: a handler for inbound streams."""
        try:
            if await self._welcome(stream):
                await self._inform(stream)
        except ProtocolViolation as error:
            log.warning("offers_violation", peer=stream.peer, reason=error.message)
            self._violated(stream.peer, error.message)
            raise

    async def _welcome(self, stream: Stream) -> bool:
        """Whether the caller asks for what we have; who does not is told why."""
        frame = await Inbox(stream, _SUBSCRIBE_FRAME).next(SUBSCRIBE_S)
        if frame is None:
            return False
        message = wire.decode_message(frame)
        if not isinstance(message, wire.Subscribe):
            raise ProtocolViolation("a subscriber did not begin with a subscription.")
        reason = "version" if message.version < wire.VERSION else ""
        reason = reason or ("network" if message.network != self._network else "")
        if not reason:
            return True
        with trio.move_on_after(SLOW_S):
            await stream.write(pack(encode(wire.Wrong(reason=reason)), limit=wire.FRAME))
        await stream.close()
        if reason == "network":
            self._violated(stream.peer, "it is of another network.")
        return False

    async def _inform(self, stream: Stream) -> None:
        """Tell one reader, until it leaves, does not read, or subscribes anew."""
        peer, scope = stream.peer, trio.CancelScope()
        self.drop(peer)
        self._readers[peer] = scope
        try:
            with scope:
                await self._tell(stream)
        finally:
            if self._readers.get(peer) is scope:
                del self._readers[peer]
        raise StreamReset(f"what was told to {peer} ends here.")

    async def _tell(self, stream: Stream) -> None:
        reader = Reader()
        while True:
            mark, now = self._mark, trio.current_time()
            offers, gone = reader.news(
                self._announcer.current(), self._announcer.offer.issued_ms, self._book.direct(now),
                self._book.to_pass_on(stream.peer, now), now,
            )  # fmt: skip
            if offers or gone or now >= reader.spoke + wire.REFRESH_S:
                for frame in frames_of(offers, gone):
                    with trio.move_on_after(SLOW_S) as patience:
                        await stream.write(frame)
                    if patience.cancelled_caught:
                        raise StreamReset(f"{stream.peer} did not read what it was told.")
                reader.spoke = trio.current_time()
            await trio.sleep(PACE_S)
            with trio.move_on_at(reader.spoke + wire.REFRESH_S):
                while mark == self._mark:
                    await self._changed.wait()

    def _stir(self) -> None:
        """Wake who tells, if there is something to tell."""
        if self._mark != (mark := (self._book.version, self._announcer.offer.issued_ms)):
            self._mark = mark
            self._changed.set()
            self._changed = trio.Event()


class Reader:
    """What one reader was told. Pure."""

    def __init__(self) -> None:
        self.spoke = -math.inf
        """When anything was said last."""
        self._own = -1
        self._told: dict[PeerId, tuple[Voucher, float]] = {}

    def news(
        self,
        own: wire.Passed,
        own_issued_ms: int,
        direct: frozenset[PeerId],
        vouchers: Iterable[Voucher],
        now: float,
    ) -> tuple[list[wire.Passed], list[PeerId]]:
        """Offers and withdrawals to tell now, noted as told. ``direct`` are the peers we vouch for at all."""
        gone = [peer for peer in self._told if peer not in direct]
        for peer in gone:
            del self._told[peer]
        offers = []
        if own_issued_ms != self._own:
            self._own = own_issued_ms
            offers.append(own)
        for voucher in vouchers:
            if self._is_news(voucher, now):
                self._told[voucher.peer] = (voucher, now + voucher.left_s)
                offers.append(voucher.passed)
        return offers, gone

    def _is_news(self, voucher: Voucher, now: float) -> bool:
        told, until = self._told.get(voucher.peer, (None, 0.0))
        if told is None:
            return True
        if voucher.there:
            return False
        if told.revision != voucher.revision:
            return True
        return told.issued_ms != voucher.issued_ms and until - now <= RENEW_S


def frames_of(offers: Sequence[wire.Passed], gone: Sequence[PeerId]) -> list[bytes]:
    """``Told`` messages that hold all of these, each a whole frame within its bounds; at least one."""
    names = _batches(gone, lambda name: len(name.encode()) + _AROUND_NAME, _MOST_GONE)
    passed = _batches(offers, lambda each: len(each.offer.body) + _AROUND_OFFER, wire.IN_ONE_FRAME)
    told = [*(wire.Told(offers=(), gone=batch) for batch in names), *(wire.Told(offers=batch) for batch in passed)]
    return [pack(encode(each), limit=wire.FRAME) for each in told or [wire.Told(offers=())]]


def _batches(items: Iterable[T], size: Callable[[T], int], most: int) -> list[tuple[T, ...]]:
    """The items in order, in tuples of at most ``most`` that fit into a frame."""
    batches: list[list[T]] = []
    room = 0
    for item in items:
        if room < size(item) or len(batches[-1]) == most:
            batches.append([])
            room = wire.FRAME - _AROUND_OFFER
        batches[-1].append(item)
        room -= size(item)
    return [tuple(batch) for batch in batches]


class Inbox:
    """Whole frames of a stream, one after another."""

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._frames = FrameReader(limit=limit)
        self._whole: deque[bytes] = deque()

    async def next(self, within_s: float) -> bytes | None:
        """The next frame; None at the peer's end. Raises PeerHung (none in time), ProtocolViolation (half of one)."""
        with trio.move_on_after(within_s):
            while not self._whole:
                data = await self._stream.read()
                if not data:
                    if self._frames.pending:
                        raise ProtocolViolation("a stream about offers ended within a frame.")
                    return None
                self._whole.extend(self._frames.feed(data))
            return self._whole.popleft()
        raise PeerHung(f"nothing whole was said about offers for {within_s:g} s.")
