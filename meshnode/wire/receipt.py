"""Receipts: what one node owes another for all its work so far, signed by both. Pure.

One channel is what one consumer key (who was served) owes one provider key. Its receipts are cumulative: the newest
says everything, and older ones are worth nothing. The consumer signs each, which binds it at once; the provider
countersigns, which confirms it. See :mod:`meshnode.ledger`.

A receipt is the MessagePack array
``["mn/rcpt/1", net, consumer, provider, chan, seq, cum_uc, cum_in, cum_out, n_req, day, prev]``. The consumer signs
``"mn/rcpt/1\\0"`` and those bytes; the provider signs the same and the consumer's signature behind them. ``prev`` is
the BLAKE2b-256 of the last receipt of the channel that both signed (zeros before there is one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from meshnode.curve import of_small_order
from meshnode.errors import ProtocolViolation
from meshnode.wire.canonical import encode, exact
from meshnode.wire.fields import U32, U63, Hash, Key, Net, Sig, Wire

TAG: Final = "mn/rcpt/1"
PREFIX: Final = b"mn/rcpt/1\0"
LONGEST: Final = 512
"""Bytes of a receipt with both signatures, at most."""
NO_PREVIOUS: Final = bytes(32)

Verify = Callable[[bytes, bytes, bytes], bool]
"""``(public key, signature, message)``: whether it is good; :func:`meshnode.identity.verify`."""


class Receipt(Wire, frozen=True, tag=TAG, forbid_unknown_fields=True):
    """What is signed. Totals since the channel began: µc, prompt tokens, output tokens, requests.

    ``day`` is days since 1970 by the signer's clock, for people.
    """

    network: Net
    consumer: Key
    provider: Key
    chan: U32
    seq: U63
    cum_uc: U63
    cum_in: U63
    cum_out: U63
    n_req: U63
    day: U32
    prev: Hash


class SignedReceipt(Wire, frozen=True, forbid_unknown_fields=True):
    """A receipt's bytes and signatures; ``sig_p`` is empty until the provider has countersigned."""

    body: bytes
    sig_c: Sig
    sig_p: bytes = b""

    @property
    def confirmed(self) -> bool:
        """Whether it claims to be signed by both."""
        return self.sig_p != b""


_RECEIPT: Final = msgspec.msgpack.Decoder(Receipt)
_SIGNED: Final = msgspec.msgpack.Decoder(SignedReceipt)


def encode_signed(signed: SignedReceipt) -> bytes:
    """The bytes that travel and are stored."""
    return encode(signed)


def decode_signed(data: bytes) -> SignedReceipt:
    """Inverse of :func:`encode_signed`; nothing in it is believed yet. Raises ProtocolViolation."""
    if len(data) > LONGEST:
        raise ProtocolViolation(f"a receipt of {len(data)} bytes is over the limit of {LONGEST}.")
    signed = exact(data, _SIGNED, what="a signed receipt")
    if len(signed.sig_p) not in (0, 64):
        raise ProtocolViolation("a receipt's second signature has neither 0 nor 64 bytes.")
    return signed


def content(signed: SignedReceipt) -> Receipt:
    """What a receipt says, whoever signed it. Raises ProtocolViolation when it is not in its one encoding."""
    return exact(signed.body, _RECEIPT, what="a receipt")


def consumer_payload(body: bytes) -> bytes:
    """What the consumer signs."""
    return PREFIX + body


def provider_payload(body: bytes, sig_c: bytes) -> bytes:
    """What the provider signs."""
    return PREFIX + body + sig_c


def checked(signed: SignedReceipt, network: bytes, verify: Verify) -> Receipt:
    """What a receipt says, once its form, network, keys and every signature it carries are good.

    Raises ProtocolViolation that names what is not. A receipt that only its consumer signed is good as such: whoever
    needs both signatures looks at :attr:`SignedReceipt.confirmed`.
    """
    receipt = content(signed)
    if receipt.network != network:
        raise ProtocolViolation("a receipt is of another network.")
    if of_small_order(receipt.consumer) or of_small_order(receipt.provider):
        raise ProtocolViolation("a receipt has a key of small order, for which anybody can sign.")
    if receipt.consumer == receipt.provider:
        raise ProtocolViolation("a receipt's consumer and provider are one key.")
    if not verify(receipt.consumer, signed.sig_c, consumer_payload(signed.body)):
        raise ProtocolViolation("a receipt's consumer did not sign it.")
    if signed.confirmed and not verify(receipt.provider, signed.sig_p, provider_payload(signed.body, signed.sig_c)):
        raise ProtocolViolation("a receipt's provider did not sign it.")
    return receipt


def digest(signed: SignedReceipt) -> bytes:
    """BLAKE2b-256 of a receipt that both signed: ``prev`` of the next ones."""
    return hashlib.blake2b(signed.body + signed.sig_c + signed.sig_p, digest_size=32).digest()


def supersedes(newer: Receipt, older: Receipt) -> bool:
    """Whether ``newer`` may take the place of ``older``: same channel, higher ``seq``, no total lower."""
    same = (newer.network, newer.consumer, newer.provider, newer.chan)
    if same != (older.network, older.consumer, older.provider, older.chan) or newer.seq <= older.seq:
        return False
    totals = ("cum_uc", "cum_in", "cum_out", "n_req")
    return all(getattr(newer, name) >= getattr(older, name) for name in totals)
