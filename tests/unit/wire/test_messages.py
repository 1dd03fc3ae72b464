"""Every message is read back as it was sent; bounds hold; what is signed is bound to its purpose and stream."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest
from msgspec.msgpack import encode as enc

from meshnode.errors import ProtocolViolation
from meshnode.events import Event
from meshnode.identity import verify
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from wiring import samples
from wiring.samples import CALLER, PROVIDER


@pytest.mark.parametrize("name", samples.MESSAGES)
def test_every_message_is_read_back(name: str) -> None:
    message = samples.MESSAGES[name]
    assert m.decode(encode(message)) == message


def test_the_samples_leave_no_message_and_no_event_out() -> None:
    assert {type(message) for message in samples.MESSAGES.values()} == set(get_args(m.Message))
    assert {type(event) for event in samples.EVENTS.values()} == set(get_args(Event))


def test_a_message_begins_with_its_name() -> None:
    names = {msgspec.msgpack.decode(encode(message))[0] for message in samples.MESSAGES.values()}
    both, caller = {"hello", "proof", "beat", "bye"}, {"ask", "body", "credit", "tick", "cancel"}
    assert names == both | caller | {"accept", "refuse", "events", "receipt"}


LIMITS: dict[str, tuple[m.Message, m.Message]] = {
    "code": (m.Bye("x" * 64), m.Bye("x" * 65)),
    "reason": (m.Bye("", "x" * 500), m.Bye("", "x" * 501)),
    "body part": (m.Body(1, bytes(m.BODY_PART), last=True), m.Body(1, bytes(m.BODY_PART + 1), last=True)),
    "credit": (m.Credit(((1, 1 << 24),)), m.Credit(((1, (1 << 24) + 1),))),
    "credits": (m.Credit(((1, 1),) * m.MARKS), m.Credit(((1, 1),) * (m.MARKS + 1))),
    "no credit": (m.Credit(((1, 0),)), m.Credit(())),
    "marks": (m.Tick(b"", (m.Mark(1, 0, 0, 0),) * m.MARKS), m.Tick(b"", (m.Mark(1, 0, 0, 0),) * (m.MARKS + 1))),
    "receipts": (m.Proof(bytes(64), (b"",) * 16), m.Proof(bytes(64), (b"",) * 17)),
    "receipt": (m.Countersigned(bytes(512)), m.Countersigned(bytes(513))),
    "alternates": (m.Refuse(1, "x", alternates=("p",) * 8), m.Refuse(1, "x", alternates=("p",) * 9)),
    "terms": (m.Ask(1, bytes(8192), bytes(64), 0), m.Ask(1, bytes(8193), bytes(64), 0)),
    "number": (m.Accept(2**32 - 1), m.Accept(2**32)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_message_may_be_so_large_and_no_larger(name: str) -> None:
    largest, too_large = LIMITS[name]
    assert m.decode(encode(largest)) == largest
    with pytest.raises(ProtocolViolation, match="a message cannot be read"):
        m.decode(encode(too_large))


def test_terms_are_read_as_they_were_signed() -> None:
    ask = samples.ask()
    assert m.decode_terms(ask.terms) == samples.terms()
    assert verify(CALLER.ledger_public, ask.signature, m.terms_payload(ask.terms))
    assert m.terms_payload(b"x") == b"mn/ask/1\0x"


def test_terms_of_a_later_version_are_still_signed() -> None:
    later = enc([*msgspec.msgpack.decode(samples.ask().terms), {"batch": 4}])
    assert m.decode_terms(later) == samples.terms()
    signature = CALLER.sign_for_ledger(m.terms_payload(later))
    assert verify(CALLER.ledger_public, signature, m.terms_payload(later))
    assert not verify(CALLER.ledger_public, samples.ask().signature, m.terms_payload(later))


def test_a_bond_is_good_for_one_stream_in_one_direction() -> None:
    fields: dict[str, Any] = {
        "caller": CALLER.peer_id,
        "provider": PROVIDER.peer_id,
        "caller_nonce": bytes(16),
        "provider_nonce": b"n" * 16,
        "ledger": CALLER.ledger_public,
    }
    turned = fields | {"caller": fields["provider"], "provider": fields["caller"]}
    others = [fields | {name: b"x" * 16} for name in ("caller_nonce", "provider_nonce")]
    others += [fields | {"ledger": PROVIDER.ledger_public}, turned]
    bonds = [m.bond(**each) for each in (fields, *others)]
    assert all(bond.startswith(b"mn/bond/1\0") for bond in bonds)
    assert len(set(bonds)) == len(bonds)


def test_no_signature_is_good_for_another_purpose() -> None:
    purposes = (b"mn/ask/1\0", b"mn/bond/1\0", b"mn/offer/1\0", b"mn/rcpt/1\0")
    assert not any(a.startswith(b) for a, b in itertools.permutations(purposes, 2))


@pytest.mark.parametrize("bare", [b"\x80", b"\x90", b"\xa0", b"\xc0", b"\x01"])
def test_a_frame_of_garbage_costs_little_more_than_its_bytes(bare: bytes) -> None:
    count = m.FRAME - 16
    data = b"\x92" + enc("events") + b"\xdd" + count.to_bytes(4, "big") + bare * count
    tracemalloc.start()
    with pytest.raises(ProtocolViolation):
        m.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9 * m.FRAME


def test_a_count_that_is_announced_allocates_nothing() -> None:
    data = b"\x92" + enc("events") + b"\xdd\xff\xff\xff\xff\x92\x01\x80"
    tracemalloc.start()
    with pytest.raises(ProtocolViolation):
        m.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
