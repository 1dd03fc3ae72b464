"""Offers: what a node says it serves now, signed by its peer key. And ``/meshnode/offer/1``, which carries them. Pure.

An offer is the MessagePack array of :class:`Offer`; the peer key signs ``"mn/offer/1\\0"`` and those bytes. It travels
as those very bytes, so that whoever relays it cannot change it. Hints in the DHT say who may have one; the truth is the
offer.

The protocol: the caller sends :class:`Subscribe`; the other answers with :class:`Told`, at once and whenever something
changes, and at least every :data:`REFRESH_S` as long as the stream is open. Each ``Told`` holds offers (its own, and
those of peers that are connected to it, as they signed them) with their age, and the peers whose offers it no longer
vouches for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from meshnode.curve import of_small_order
from meshnode.errors import ProtocolViolation
from meshnode.wire.canonical import encode, tolerant
from meshnode.wire.fields import U32, U63, Key, Name, Net, Prices, Sig, Wire, Word
from meshnode.wire.receipt import Verify

PROTOCOL: Final = "/meshnode/offer/1"
VERSION: Final = 1
FRAME: Final = 256 << 10
"""Bytes of one frame at most."""
LONGEST: Final = 32 << 10
"""Bytes of one offer at most."""
REFRESH_S: Final = 30.0
MOST_TTL_S: Final = 120
"""No offer is good for longer after it was signed."""
IN_ONE_FRAME: Final = 256
"""Offers in one ``Told`` at most, as the frame's bytes allow."""

Rate = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Address = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ModelOffer(Wire, frozen=True):
    """One model. ``weights`` and ``template`` are sha256 (empty while not known), ``context`` in tokens.

    ``decode_tps`` tokens per second and ``first_token_ms`` as measured here, 0 when not. ``slots`` conversations at a
    time, ``free`` of them idle, ``queue`` requests that wait. ``state``: ``ready``, ``loading`` or ``unloaded``.
    """

    id: Name
    weights: Annotated[bytes, msgspec.Meta(max_length=32)]
    template: Annotated[bytes, msgspec.Meta(max_length=32)]
    quantisation: Word
    context: U32
    kv_type: Word
    modalities: Annotated[tuple[Word, ...], msgspec.Meta(max_length=8)]
    features: Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)]
    kinds: Annotated[tuple[Word, ...], msgspec.Meta(max_length=8)]
    prices: Prices
    decode_tps: Rate
    first_token_ms: Rate
    slots: U32
    free: U32
    queue: U32
    state: Word
    parameters: U63
    family: Word
    license: Word


class Offer(Wire, frozen=True, tag="mn/offer/1"):
    """What a peer serves. ``issued_ms`` is its wall clock: a later offer has a higher one; good for ``ttl_s`` seconds.

    ``ledger`` is the key its receipts are for, ``max_body`` bytes of a request's body it takes.
    """

    network: Net
    peer: Name
    ledger: Key
    issued_ms: U63
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=MOST_TTL_S)]
    addresses: Annotated[tuple[_Address, ...], msgspec.Meta(max_length=8)]
    models: Annotated[tuple[ModelOffer, ...], msgspec.Meta(max_length=64)]
    privacy: Annotated[tuple[Word, ...], msgspec.Meta(max_length=8)]
    max_body: U32
    region: Word
    software: Word


class SignedOffer(Wire, frozen=True):
    """An offer's bytes and its peer's signature."""

    body: Annotated[bytes, msgspec.Meta(max_length=LONGEST)]
    signature: Sig


class Subscribe(Wire, frozen=True, tag="subscribe"):
    """Tell me offers of this network."""

    version: U32
    network: Net


class Passed(Wire, frozen=True):
    """A signed offer that is ``age_ms`` old, as far as whoever passes it on knows."""

    offer: SignedOffer
    age_ms: U32


class Told(Wire, frozen=True, tag="told"):
    """Offers, and peers whose offers are withdrawn."""

    offers: Annotated[tuple[Passed, ...], msgspec.Meta(max_length=IN_ONE_FRAME)]
    gone: Annotated[tuple[Name, ...], msgspec.Meta(max_length=1024)] = ()


class Wrong(Wire, frozen=True, tag="wrong"):
    """The subscriber is refused (another network or version); the stream ends."""

    reason: Word


Message = Subscribe | Told | Wrong

_OFFER: Final = msgspec.msgpack.Decoder(Offer)
_MESSAGE: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def offer_payload(body: bytes) -> bytes:
    """What the peer key signs."""
    return b"mn/offer/1\0" + body


def decode_message(data: bytes) -> Message:
    """One message of the protocol; signatures are not looked at. Raises ProtocolViolation."""
    return tolerant(data, _MESSAGE, what="a message about offers")


def encode_offer(offer: Offer) -> bytes:
    """The bytes that are signed. Raises ProtocolViolation when they are too many."""
    body = encode(offer)
    if len(body) > LONGEST:
        raise ProtocolViolation(f"an offer of {len(body)} bytes is over the limit of {LONGEST}.")
    return body


def decode_offer(body: bytes) -> Offer:
    """What an offer says, whoever signed it. Raises ProtocolViolation."""
    return tolerant(body, _OFFER, what="an offer")


def checked(signed: SignedOffer, network: bytes, verify: Verify, key_of: Callable[[str], bytes]) -> Offer:
    """What an offer says, once its form, network and signature are good. Raises ProtocolViolation.

    ``key_of`` gives the public key in a peer id, or raises ValueError (:func:`meshnode.identity.public_key_of`).
    """
    offer = decode_offer(signed.body)
    if offer.network != network:
        raise ProtocolViolation("an offer is of another network.")
    if of_small_order(offer.ledger):
        raise ProtocolViolation("an offer has a ledger key of small order, for which anybody can sign.")
    try:
        key = key_of(offer.peer)
    except ValueError:
        raise ProtocolViolation("an offer's peer has no proper id.") from None
    if not verify(key, signed.signature, offer_payload(signed.body)):
        raise ProtocolViolation("an offer's peer did not sign it.")
    return offer
