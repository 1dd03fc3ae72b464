"""What this node offers: built from its library and its pool, signed by its peer key, and anew when it changes.

:meth:`Announcer.look` compares what is so with what was signed last. A change that matters (models, states, prices,
addresses) is signed at once, but not within :data:`APART_S` of the last; load alone every :data:`LOAD_S` at most; and
all of it every :data:`RENEW_S` at the latest, long before the offer is over (:data:`TTL_S`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import trio

from meshnode.domain import ModelCard, ModelId
from meshnode.engine.slot import BEST_FIRST, ModelState
from meshnode.errors import ProtocolViolation
from meshnode.identity import Identity
from meshnode.mesh.estimate import FEATURES
from meshnode.mesh.offers import substance
from meshnode.wire.fields import Prices
from meshnode.wire.offer import ModelOffer, Offer, Passed, SignedOffer, encode_offer, offer_payload

TTL_S: Final = 120
RENEW_S: Final = 45.0
LOAD_S: Final = 5.0
APART_S: Final = 0.5

_U32: Final = (1 << 32) - 1
_U63: Final = (1 << 63) - 1
_MOST_MODELS: Final = 64
_MOST_ADDRESSES: Final = 8


class Announcer:
    """This node's own offer. ``look`` it over from time to time, or let ``run`` do it."""

    def __init__(
        self,
        identity: Identity,
        network: bytes,
        *,
        cards: Callable[[], Sequence[ModelCard]],
        state: Callable[[ModelId], ModelState],
        served: Callable[[ModelId], bool],
        prices: Callable[[ModelCard], Prices],
        context_of: Callable[[ModelCard], int],
        addresses: Callable[[], Sequence[str]],
        draining: Callable[[], bool],
        wall_clock: Callable[[], float],
        slots: int,
        max_body: int,
        software: str,
    ) -> None:
        """``network`` is its tag.

        ``cards`` are the library's (none on a node that only asks), ``state`` the pool's, ``served`` whether strangers
        may use a model; ``context_of`` is the context in tokens that a model would be loaded with and ``slots`` how
        many conversations it would take; ``wall_clock`` gives seconds since 1970.
        """
        self._identity = identity
        self._network = network
        self._cards = cards
        self._state = state
        self._served = served
        self._prices = prices
        self._context_of = context_of
        self._addresses = addresses
        self._draining = draining
        self._wall_clock = wall_clock
        self._slots = slots
        self._max_body = max_body
        self._software = software
        self._offer: Offer | None = None
        self._signed: SignedOffer | None = None
        self._signed_at = -math.inf
        self._listeners: list[Callable[[], None]] = []

    @property
    def offer(self) -> Offer:
        """What is offered now, as it was signed last."""
        if self._offer is None:
            self.look()
        assert self._offer is not None
        return self._offer

    def current(self) -> Passed:
        """The signed offer, for others, with its age."""
        if self._signed is None:
            self.look()
        assert self._signed is not None
        return Passed(offer=self._signed, age_ms=round(1000 * (trio.current_time() - self._signed_at)))

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` each time the offer was signed anew."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Look every :data:`APART_S`, until cancelled."""
        while True:
            self.look()
            await trio.sleep(APART_S)

    def look(self) -> None:
        """Sign anew if that is due. For whoever knows that something changed, ``run`` or not."""
        offer = self._built()
        if self._offer is not None and not due(self._offer, offer, trio.current_time() - self._signed_at):
            return
        issued_ms = min(max(round(1000 * self._wall_clock()), self._offer.issued_ms + 1 if self._offer else 0), _U63)
        self._offer, body = _fitting(msgspec.structs.replace(offer, issued_ms=issued_ms))
        self._signed = SignedOffer(body=body, signature=self._identity.sign_as_peer(offer_payload(body)))
        self._signed_at = trio.current_time()
        for listener in self._listeners:
            listener()

    def _built(self) -> Offer:
        return Offer(
            network=self._network,
            peer=self._identity.peer_id,
            ledger=self._identity.ledger_public,
            issued_ms=0,
            ttl_s=TTL_S,
            addresses=tuple(address for address in self._addresses() if 0 < len(address) <= 200)[:_MOST_ADDRESSES],
            models=() if self._draining() else self._models(),
            privacy=("standard",),
            max_body=min(self._max_body, _U32),
            region="",
            software=_word(self._software),
        )

    def _models(self) -> tuple[ModelOffer, ...]:
        """The models served, loaded ones first, as many as an offer holds."""
        pairs = [(card, self._state(card.id)) for card in self._cards() if self._served(card.id)]
        usable = [pair for pair in pairs if pair[1].state in BEST_FIRST and 0 < len(pair[0].id) <= 200]
        usable.sort(key=lambda pair: BEST_FIRST.index(pair[1].state))
        return tuple(
            model_offer(card, state, prices=self._prices(card), context=self._context_of(card), slots=self._slots)
            for card, state in usable[:_MOST_MODELS]
        )


def due(signed: Offer, now: Offer, age_s: float) -> bool:
    """Whether ``now`` is to be signed when ``signed`` is ``age_s`` old."""
    if age_s >= RENEW_S:
        return True
    if substance(signed) != substance(now):
        return age_s >= APART_S
    return age_s >= LOAD_S and signed.models != now.models


def model_offer(card: ModelCard, state: ModelState, *, prices: Prices, context: int, slots: int) -> ModelOffer:
    """One model: as its engine is when it has one, else as it would be loaded: ``context`` tokens, ``slots``."""
    info, gauge = state.info, state.gauge
    slots = min(info.n_seq_max if info else slots, _U32)
    return ModelOffer(
        id=card.id,
        weights=_digest(card.sha256),
        template=_digest(info.template_sha256 if info and info.template_sha256 else card.template_sha256),
        quantisation=_word(card.quantisation),
        context=min(info.n_ctx if info else context, _U32),
        kv_type="f16",
        modalities=_words(card.modalities, 8),
        features=FEATURES,
        kinds=_words(card.kinds, 8),
        prices=prices,
        decode_tps=_rate(info.decode_tps) if info else 0.0,
        first_token_ms=0.0,
        slots=slots,
        free=max(0, slots - gauge.running),
        queue=min(gauge.waiting, _U32),
        state=_word(state.state),
        parameters=min(card.parameters, _U63),
        family=_word(card.family),
        license=_word(card.license),
    )


def _fitting(offer: Offer) -> tuple[Offer, bytes]:
    """The offer and its bytes, without the last models if all of them are too many bytes."""
    while True:
        try:
            return offer, encode_offer(offer)
        except ProtocolViolation:
            if not offer.models:
                raise
            offer = msgspec.structs.replace(offer, models=offer.models[:-1])


def _word(text: str) -> str:
    return text[:64]


def _words(texts: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(_word(text) for text in texts)[:most]


def _rate(rate: float) -> float:
    return min(rate, 1e9) if math.isfinite(rate) and rate > 0 else 0.0


def _digest(text: str) -> bytes:
    """The bytes of a sha256 in hexadecimal; empty when it is not known."""
    return bytes.fromhex(text) if len(text) == 64 else b""
