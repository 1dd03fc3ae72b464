"""Receipts: only what both keys really signed, in one spelling; and which of two is the newer."""

from __future__ import annotations

import hashlib
import itertools

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation
from meshnode.identity import verify
from meshnode.wire.canonical import encode
from meshnode.wire.fields import UINT
from meshnode.wire.receipt import (
    LONGEST,
    NO_PREVIOUS,
    PREFIX,
    Receipt,
    SignedReceipt,
    checked,
    content,
    decode_signed,
    digest,
    encode_signed,
    supersedes,
)
from wiring.invalid import SMALL_KEYS
from wiring.samples import CALLER, LARGEST, NETWORK, PROVIDER, receipt, signed

u32, u63 = st.integers(0, 2**32 - 1), st.integers(0, UINT)
TOTALS = ("cum_uc", "cum_in", "cum_out", "n_req")
receipts = st.builds(
    lambda chan, day, prev, totals: msgspec.structs.replace(
        receipt(), chan=chan, day=day, prev=prev, **dict(zip(("seq", *TOTALS), totals, strict=True))
    ),
    u32,
    u32,
    st.binary(min_size=32, max_size=32),
    st.tuples(u63, u63, u63, u63, u63),
)


@given(receipts, st.booleans())
def test_what_is_signed_is_read_back(of: Receipt, both: bool) -> None:
    made = signed(of, both=both)
    assert made.confirmed is both
    again = decode_signed(encode_signed(made))
    assert again == made
    assert content(again) == checked(again, NETWORK, verify) == of


def test_a_receipt_is_the_array_that_is_written_down() -> None:
    of = receipt(7)
    fields = [NETWORK, CALLER.ledger_public, PROVIDER.ledger_public, 0xDEADBEEF, 7, 7000, 700, 420, 7, 20_000]
    assert msgspec.msgpack.decode(encode(of)) == ["mn/rcpt/1", *fields, NO_PREVIOUS]


def test_any_implementation_of_ed25519_can_check_it() -> None:
    made = signed(receipt(), both=True)
    assert PREFIX == b"mn/rcpt/1\0"
    Ed25519PublicKey.from_public_bytes(CALLER.ledger_public).verify(made.sig_c, PREFIX + made.body)
    Ed25519PublicKey.from_public_bytes(PROVIDER.ledger_public).verify(made.sig_p, PREFIX + made.body + made.sig_c)
    assert digest(made) == hashlib.blake2b(made.body + made.sig_c + made.sig_p, digest_size=32).digest()


def test_the_longest_receipt_has_room() -> None:
    assert len(encode_signed(signed(LARGEST, both=True))) == 313 < LONGEST
    with pytest.raises(ProtocolViolation, match="513 bytes is over the limit of 512"):
        decode_signed(bytes(LONGEST + 1))


@pytest.mark.parametrize("place", range(0, 2 * 64, 5))
def test_any_flipped_bit_of_a_signature_is_found(place: int) -> None:
    made = signed(receipt(), both=True)
    flipped = bytearray(made.sig_c + made.sig_p)
    flipped[place] ^= 0x10
    with pytest.raises(ProtocolViolation, match="did not sign it"):
        checked(SignedReceipt(made.body, bytes(flipped[:64]), bytes(flipped[64:])), NETWORK, verify)


@given(st.data())
def test_any_changed_byte_of_a_receipt_is_found(data: st.DataObject) -> None:
    whole = bytearray(encode_signed(signed(receipt(), both=True)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProtocolViolation):
        checked(decode_signed(bytes(whole)), NETWORK, verify)


@pytest.mark.parametrize("key", SMALL_KEYS, ids=bytes.hex)
def test_a_key_of_small_order_is_no_party(key: bytes) -> None:
    for party in ("consumer", "provider"):
        of = msgspec.structs.replace(receipt(), **{party: key})
        with pytest.raises(ProtocolViolation, match="small order"):
            checked(signed(of), NETWORK, lambda *_: True)


def test_the_second_signature_has_no_length_but_its_own() -> None:
    made = signed(receipt())
    for length in (1, 32, 63, 65):
        with pytest.raises(ProtocolViolation, match="neither 0 nor 64"):
            decode_signed(encode_signed(SignedReceipt(made.body, made.sig_c, bytes(length))))


def test_newer_is_higher_and_nowhere_lower() -> None:
    older = receipt(7)
    assert supersedes(receipt(8), older)
    assert not supersedes(older, older)
    assert not supersedes(older, receipt(8))
    assert supersedes(msgspec.structs.replace(older, seq=8), older), "equal totals may be signed anew"
    for total in TOTALS:
        fewer = msgspec.structs.replace(receipt(8), **{total: getattr(older, total) - 1})
        assert not supersedes(fewer, older), total
    for field, other in {"network": bytes(8), "consumer": bytes(32), "provider": bytes(32), "chan": 1}.items():
        assert not supersedes(msgspec.structs.replace(receipt(8), **{field: other}), older), field


def test_of_any_order_of_arrival_the_newest_is_left() -> None:
    for order in itertools.permutations(range(1, 7)):
        newest = receipt(order[0])
        for seq in order[1:]:
            newest = receipt(seq) if supersedes(receipt(seq), newest) else newest
        assert newest == receipt(6)
