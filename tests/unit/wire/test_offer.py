"""Offers travel as they were signed, and say nothing that their peer did not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshnode.errors import ProtocolViolation
from meshnode.identity import public_key_of, verify
from meshnode.wire import offer as o
from meshnode.wire.canonical import encode
from wiring import samples
from wiring.samples import CALLER, NETWORK, OFFERED, PROVIDER, offer, signed_offer
from wiring.vectors import told_offers


def checked(signed: o.SignedOffer) -> o.Offer:
    """The offer, checked as a node would."""
    return o.checked(signed, NETWORK, verify, public_key_of)


@pytest.mark.parametrize("name", samples.OFFER_MESSAGES)
def test_every_message_is_read_back(name: str) -> None:
    message = samples.OFFER_MESSAGES[name]
    assert o.decode_message(encode(message)) == message


def test_an_offer_is_what_its_peer_signed() -> None:
    assert checked(signed_offer()) == offer()
    assert told_offers(encode(samples.OFFER_MESSAGES["told"])) == [offer()]


def test_who_passes_an_offer_on_cannot_change_it() -> None:
    signed = signed_offer()
    for place in range(len(signed.body)):
        changed = bytearray(signed.body)
        changed[place] ^= 1
        with pytest.raises(ProtocolViolation):
            checked(o.SignedOffer(bytes(changed), signed.signature))
    by_relay = CALLER.sign_as_peer(o.offer_payload(signed.body))
    with pytest.raises(ProtocolViolation, match="did not sign"):
        checked(o.SignedOffer(signed.body, by_relay))


def test_a_signature_for_something_else_is_none() -> None:
    body = o.encode_offer(offer())
    with pytest.raises(ProtocolViolation, match="did not sign"):
        checked(o.SignedOffer(body, PROVIDER.sign_as_peer(body)))


def test_fields_of_a_later_version_are_ignored_and_signed() -> None:
    later = msgspec.msgpack.decode(o.encode_offer(offer()))
    later[7][0].append({"speculative": True})
    body = msgspec.msgpack.encode([*later, "later"])
    assert checked(signed_offer(body)) == offer()


def test_an_offer_may_be_so_long_and_no_longer() -> None:
    models = tuple(msgspec.structs.replace(OFFERED, id=f"{number:0200}") for number in range(64))
    assert checked(signed_offer(o.encode_offer(offer(models=models)))).models == models
    wordy = tuple(msgspec.structs.replace(model, features=("x" * 64,) * 32) for model in models)
    with pytest.raises(ProtocolViolation, match="over the limit of 32768"):
        o.encode_offer(offer(models=wordy))


BAD: dict[str, dict[str, Any]] = {
    "nine addresses": {"addresses": ("/ip4/192.0.2.1",) * 9},
    "an empty address": {"addresses": ("",)},
    "sixty-five models": {"models": (OFFERED,) * 65},
    "no time to live": {"ttl_s": 0},
    "two minutes and a second": {"ttl_s": o.MOST_TTL_S + 1},
    "a body over 32 bits": {"max_body": 2**32},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
def test_bounds_hold(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match="an offer cannot be read"):
        checked(signed_offer(encode(msgspec.structs.replace(offer(), **fields))))


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1e-9, 1e10])
@pytest.mark.parametrize("field", ["decode_tps", "first_token_ms"])
def test_a_rate_is_a_number(field: str, rate: float) -> None:
    model = msgspec.structs.replace(OFFERED, **{field: rate})
    with pytest.raises(ProtocolViolation):
        checked(signed_offer(encode(offer(models=(model,)))))


def test_a_whole_number_is_a_rate() -> None:
    model = msgspec.structs.replace(OFFERED, decode_tps=41)
    assert checked(signed_offer(encode(offer(models=(model,))))).models[0].decode_tps == 41.0


@pytest.mark.parametrize("peer", ["x", "12D3KooW", PROVIDER.peer_id + "1", "0OIl", CALLER.peer_id])
def test_a_peer_has_its_own_id(peer: str) -> None:
    with pytest.raises(ProtocolViolation):
        checked(signed_offer(encode(msgspec.structs.replace(offer(), peer=peer))))
