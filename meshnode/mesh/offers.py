"""Offers known: the newest of each peer, how long it is good, and who says that the peer is there. Pure.

What a peer offers is what it signed last, whichever way that came. Who is *told of* by whom is kept apart: a peer
vouches for itself as long as we are connected to it, and a connected peer for the peers connected to it. An offer that
nobody vouches for any more is not shown, but kept until it is over, so that an older one cannot take its place.

Times: ``now`` is monotonic seconds, ``wall_ms`` milliseconds since 1970. Bounds: relayed offers are at most
:data:`MOST_RELAYED` of :data:`MOST_RELAYED_BYTES` from one peer and :data:`MOST` of :data:`MOST_BYTES` altogether; when
these are full, whoever told of most gives way to whoever told of less. Offers straight from their peers are bounded by
the number of connections.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

import msgspec

from meshnode.domain import PeerId
from meshnode.wire.offer import Offer, Passed, SignedOffer, checked, decode_offer
from meshnode.wire.receipt import Verify

MOST: Final = 4096
MOST_BYTES: Final = 8 << 20
MOST_RELAYED: Final = 256
MOST_RELAYED_BYTES: Final = 512 << 10
PASSED_ON: Final = 64
"""Offers passed on to one reader at most: a choice of its own for each reader, with every model in it if possible."""
SKEW_MS: Final = 300_000
"""How far another node's wall clock may be off."""
_OLDEST_MS: Final = (1 << 32) - 1


class Voucher(NamedTuple):
    """An offer to be passed on, good for ``left_s`` more seconds to whoever gets it.

    ``revision`` is the ``issued_ms`` at which more than load last changed. ``there`` says that the reader vouches for
    the peer itself, so that it need not hear more than that we do too.
    """

    peer: PeerId
    issued_ms: int
    revision: int
    left_s: float
    there: bool
    passed: Passed


class _Known:
    """One peer's newest offer; ``born`` is when it was signed, as far as known, on our monotonic clock."""

    def __init__(self, signed: SignedOffer, offer: Offer, revision: int, now: float) -> None:
        self.signed = signed
        self.offer = offer
        self.revision = revision
        self.first_seen = now
        self.born = now - offer.ttl_s
        self.expires = now
        self.vouchers: dict[PeerId, None] = {}  # a set that keeps its order

    @property
    def peer(self) -> PeerId:
        return PeerId(self.offer.peer)

    @property
    def direct(self) -> bool:
        return self.peer in self.vouchers

    def shown(self, now: float) -> bool:
        return bool(self.vouchers) and self.expires > now


class OfferBook:
    """See the module. ``verify`` and ``key_of`` are those of :func:`meshnode.wire.offer.checked`."""

    def __init__(self, own: PeerId, network: bytes, verify: Verify, key_of: Callable[[str], bytes]) -> None:
        self.version = 0
        """Rises with whatever others may have to be told of: not with load alone."""
        self._own = own
        self._network = network
        self._verify = verify
        self._key_of = key_of
        self._known: dict[PeerId, _Known] = {}
        self._told_by: dict[PeerId, set[PeerId]] = {}
        self._weights: dict[PeerId, int] = {}  # bytes of what each told of, itself not counted
        self._hidden: dict[PeerId, None] = {}  # those nobody vouches for, longest ago first
        self._bytes = 0
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each change of an offer, its load included, and of who vouches for whom."""
        self._listeners.append(listener)

    # --- what comes in ------------------------------------------------------------------------

    def take(self, passed: Passed, *, source: PeerId, now: float, wall_ms: int) -> Offer | None:
        """What ``source`` told of: the offer if it is news, None when it is ours, over, a replay, or not the newest.

        Straight from its peer an offer is good for its whole time from now, whatever its peer's clock says. Relayed it
        is good for what its age leaves, and refused when its issue is further from our wall clock than its time and
        :data:`SKEW_MS`; telling the same again makes it no younger. Raises ProtocolViolation.
        """
        offer = decode_offer(passed.offer.body)
        peer = PeerId(offer.peer)
        if peer == self._own:
            return None
        known = self._living(peer, now)
        if known is None or known.signed != passed.offer:
            checked(passed.offer, self._network, self._verify, self._key_of)
        direct, age_s = source == peer, passed.age_ms / 1000
        if not direct and (age_s >= offer.ttl_s or abs(wall_ms - offer.issued_ms) > 1000 * offer.ttl_s + SKEW_MS):
            return None
        news = known is None or offer.issued_ms > known.offer.issued_ms
        if not self._room(source, len(passed.offer.body) if news else 0, known) and not direct:
            return None
        if known is None or news:
            known = self._replace(known, passed.offer, offer, now)
        if offer.issued_ms == known.offer.issued_ms:
            self._lengthen(known, direct, age_s, now)
        self._vouch(known, source)
        if news:
            self._notify()
        return offer if news else None

    def gone(self, source: PeerId, peers: Collection[str]) -> None:
        """``source`` vouches for ``peers`` no longer."""
        changed = [self._withdraw(source, PeerId(peer)) for peer in peers]
        if any(changed):
            self._changed()

    def hushed(self, source: PeerId) -> None:
        """``source`` tells nothing more, though it is connected: what it said of others counts no longer."""
        self.gone(source, self._told_by.get(source, set()) - {source})

    def lost(self, peer: PeerId, now: float) -> None:
        """The connection to ``peer`` was lost: its own word counts no longer, nor does what it said of others."""
        self.gone(peer, set(self._told_by.get(peer, ())))
        self.expire(now)

    def expire(self, now: float) -> float | None:
        """Drop what is over; when to look again, None when nothing is known."""
        over = [known for known in self._known.values() if known.expires <= now]
        seen = any(known.vouchers for known in over)
        for known in over:
            self._drop(known)
        if seen:
            self._changed()
        return min((known.expires for known in self._known.values()), default=None)

    # --- what is asked ------------------------------------------------------------------------

    def offers(self, now: float) -> tuple[Offer, ...]:
        """Every offer that is good now."""
        return tuple(known.offer for known in self._known.values() if known.shown(now))

    def offer(self, peer: PeerId, now: float) -> Offer | None:
        """What ``peer`` offers now."""
        known = self._shown(peer, now)
        return known.offer if known else None

    def age_s(self, peer: PeerId, now: float) -> float | None:
        """Seconds since the offer of ``peer`` was signed, as far as is known; None without one."""
        known = self._shown(peer, now)
        return max(0.0, now - known.born) if known else None

    def source(self, peer: PeerId, now: float) -> PeerId | None:
        """Who told of ``peer``: itself, or the first of those that passed its offer on; None without one."""
        known = self._shown(peer, now)
        if known is None:
            return None
        return peer if known.direct else next(iter(known.vouchers))

    def told_by(self, source: PeerId) -> frozenset[PeerId]:
        """The peers that ``source`` vouches for."""
        return frozenset(self._told_by.get(source, ()))

    # --- what goes out ------------------------------------------------------------------------

    def direct(self, now: float) -> frozenset[PeerId]:
        """Peers that offer models and told us so themselves: those we vouch for."""
        return frozenset(known.peer for known in self._passable(now))

    def to_pass_on(self, to: PeerId, now: float) -> tuple[Voucher, ...]:
        """What ``to`` is to be told of others: offers straight from their peers, as long as those offer models.

        Never relayed ones, so that nothing floods. At most :data:`PASSED_ON`.
        """
        chosen = [known for known in self._passable(now) if known.peer != to]
        if len(chosen) > PASSED_ON:
            chosen.sort(key=lambda known: (to in known.vouchers, zlib.crc32(f"{to} {known.peer}".encode())))
            chosen = _with_every_model(chosen)
        return tuple(_voucher(known, to, now) for known in chosen)

    def _passable(self, now: float) -> Iterator[_Known]:
        return (known for known in self._known.values() if known.direct and known.offer.models and known.shown(now))

    # --- bookkeeping --------------------------------------------------------------------------

    def _shown(self, peer: PeerId, now: float) -> _Known | None:
        known = self._known.get(peer)
        return known if known is not None and known.shown(now) else None

    def _living(self, peer: PeerId, now: float) -> _Known | None:
        """What is known of ``peer``, shown or not; dropped when it is over."""
        known = self._known.get(peer)
        if known is not None and known.expires <= now:
            self._drop(known)
            return None
        return known

    def _replace(self, known: _Known | None, signed: SignedOffer, offer: Offer, now: float) -> _Known:
        """Put a newer offer in the place of what was known; who vouched for the peer still does."""
        fresh = _Known(signed, offer, offer.issued_ms, now)
        if known is not None:
            fresh.vouchers = known.vouchers
            if substance(known.offer) == substance(offer):
                fresh.revision = known.revision
        more = len(signed.body) - (len(known.signed.body) if known else 0)
        self._bytes += more
        for source in fresh.vouchers:
            self._weigh(source, fresh.peer, more)
        self._known[fresh.peer] = fresh
        self.version += known is None or fresh.revision != known.revision
        return fresh

    def _lengthen(self, known: _Known, direct: bool, age_s: float, now: float) -> None:
        ttl_s = known.offer.ttl_s
        known.born = max(known.born, now - min(age_s, ttl_s))
        until = now + ttl_s if direct else min(now + ttl_s - age_s, known.first_seen + ttl_s)
        known.expires = max(known.expires, until)

    def _vouch(self, known: _Known, source: PeerId) -> None:
        if source in known.vouchers:
            return
        known.vouchers[source] = None
        self._hidden.pop(known.peer, None)
        self._told_by.setdefault(source, set()).add(known.peer)
        self._weigh(source, known.peer, len(known.signed.body))
        if source == known.peer or len(known.vouchers) == 1:
            self._changed()

    def _withdraw(self, source: PeerId, peer: PeerId) -> bool:
        """Whether ``source`` vouched for ``peer``, and does no more."""
        if peer not in self._told_by.get(source, ()):
            return False
        known = self._known[peer]
        del known.vouchers[source]
        self._weigh(source, peer, -len(known.signed.body))
        self._told_by[source].discard(peer)
        if not self._told_by[source]:
            del self._told_by[source]
            self._weights.pop(source, None)
        if not known.vouchers:
            self._hidden[peer] = None
        return True

    def _drop(self, known: _Known) -> None:
        for source in list(known.vouchers):
            self._withdraw(source, known.peer)
        self._hidden.pop(known.peer, None)
        del self._known[known.peer]
        self._bytes -= len(known.signed.body)

    def _weigh(self, source: PeerId, peer: PeerId, more: int) -> None:
        if source != peer:
            self._weights[source] = self._weights.get(source, 0) + more

    def _changed(self) -> None:
        self.version += 1
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    # --- bounds -------------------------------------------------------------------------------

    def _room(self, source: PeerId, size: int, known: _Known | None) -> bool:
        """Whether ``source`` may tell of one more offer, of ``size`` bytes; who relayed more may have to give way."""
        told = self._told_by.get(source, set())
        there = len(known.signed.body) if known is not None else 0
        if known is not None and known.peer in told:
            weight = self._weights.get(source, 0) + max(0, size - there)
        else:
            weight = self._weights.get(source, 0) + max(size, there)
            if len(told) >= MOST_RELAYED:
                return False
        if weight > MOST_RELAYED_BYTES:
            return False
        while len(self._known) + (known is None) > MOST or self._bytes + max(0, size - there) > MOST_BYTES:
            victim = self._victim(source, weight, known)
            if victim is None:
                return False
            self._drop(victim)
        return True

    def _victim(self, source: PeerId, weight: int, spared: _Known | None) -> _Known | None:
        """What is to be dropped for an offer of ``source``, who then has told of ``weight`` bytes."""
        for peer in self._hidden:
            if self._known[peer] is not spared:
                return self._known[peer]
        heaviest = max(self._weights, key=lambda other: self._weights[other], default=source)
        if self._weights.get(heaviest, 0) <= weight or heaviest == source:
            return None
        told = [self._known[peer] for peer in self._told_by[heaviest]]
        alone = [known for known in told if len(known.vouchers) == 1 and not known.direct and known is not spared]
        return min(alone, key=lambda known: known.expires, default=None)


def substance(offer: Offer) -> Offer:
    """An offer without what changes all the time: its issue, load and measured speeds."""
    models = tuple(
        msgspec.structs.replace(model, free=0, queue=0, decode_tps=0.0, first_token_ms=0.0) for model in offer.models
    )
    return msgspec.structs.replace(offer, issued_ms=0, models=models)


def _voucher(known: _Known, to: PeerId, now: float) -> Voucher:
    age_s = max(0.0, now - known.born)
    passed = Passed(offer=known.signed, age_ms=min(round(1000 * age_s), _OLDEST_MS))
    left_s = known.offer.ttl_s - age_s
    return Voucher(known.peer, known.offer.issued_ms, known.revision, left_s, to in known.vouchers, passed)


def _with_every_model(offers: list[_Known]) -> list[_Known]:
    """The first :data:`PASSED_ON`, but so that as many models as possible are among them."""
    models: set[str] = set()
    first: list[_Known] = []
    rest: list[_Known] = []
    for known in offers:
        new = {model.id for model in known.offer.models} - models
        models |= new
        (first if new else rest).append(known)
    return [*first, *rest][:PASSED_ON]
