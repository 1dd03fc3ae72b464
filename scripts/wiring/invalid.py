"""Bytes that must be refused, and why: each near something valid, and wrong in one way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec.msgpack import encode as enc

from meshnode.wire import offer as o
from meshnode.wire import receipt as r
from meshnode.wire.canonical import encode
from wiring import samples
from wiring.samples import CALLER, NETWORK, NONCES, PROVIDER

FORM, SHAPE = "not in its one encoding", "cannot be read"
IDENTITY_KEY = bytes([1]) + bytes(31)
FORGED = IDENTITY_KEY + bytes(32)
"""R the identity and S = 0: for a key of small order a good signature of one message in eight, or of every one."""
P = 2**255 - 19
SMALL_Y = (
    0,
    1,
    P - 1,
    P,
    P + 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
SMALL_KEYS = tuple((y | sign << 255).to_bytes(32, "little") for y in SMALL_Y for sign in (0, 1))
"""Every encoding of the eight points; tests/unit/test_curve.py works them out from the curve."""


class Invalid(NamedTuple):
    """Bytes, how they are read, and what the refusal is and says."""

    name: str
    decoder: str
    data: bytes
    says: str
    error: str = "ProtocolViolation"


def array(*pieces: bytes) -> bytes:
    """An array of encoded values, at most fifteen."""
    return bytes([0x90 + len(pieces)]) + b"".join(pieces)


def message(name: str, data: bytes, says: str) -> Invalid:
    """A message of ``/meshnode/infer/1``."""
    return Invalid(name, "message", data, says)


def _spelled() -> Iterator[Invalid]:
    accept, beat = enc("accept"), enc({"type": "Heartbeat"})
    one = array(enc("events"), array(array(b"\x01", beat)))
    yield message("integer_in_two_bytes", array(accept, b"\xcc\x01"), FORM)
    yield message("integer_in_nine_bytes", array(accept, b"\xcf" + bytes(7) + b"\x01"), FORM)
    yield message("signed_integer", array(accept, b"\xd0\x01"), FORM)
    yield message("text_with_long_length", array(b"\xd9\x06accept", b"\x01"), FORM)
    yield message("array_with_long_length", b"\xdc\x00\x02" + accept + b"\x01", FORM)
    yield message("map_with_long_length", one.replace(b"\x81", b"\xde\x00\x01"), FORM)
    yield message("map_key_twice", one.replace(beat, b"\x82" + beat[1:] * 2), FORM)
    yield message("bytes_with_long_length", array(enc("body"), b"\x01", b"\xc5\x00\x01x", b"\xc3"), FORM)
    yield message("appended_integer_in_two_bytes", array(enc("beat"), b"\xcc\x01"), FORM)
    yield message("appended_map_key_twice", array(enc("beat"), b"\x82\xa1a\x01\xa1a\x01"), FORM)
    short_float = one.replace(beat, b"\x82\xa4type" + enc("Loading") + enc("fraction") + b"\xca\x3f\x00\x00\x00")
    yield message("float_of_32_bits", short_float, FORM)
    yield message("trailing_byte", array(accept, b"\x01") + b"\xc0", SHAPE)
    yield message("twice", array(accept, b"\x01") * 2, SHAPE)
    yield message("cut_short", array(accept, b"\x01")[:-1], SHAPE)
    yield message("nothing", b"", SHAPE)
    yield message("byte_that_is_never_used", array(accept, b"\xc1"), SHAPE)
    yield message("text_that_is_no_unicode", array(enc("bye"), b"\xa1\xff"), SHAPE)
    yield message("half_a_surrogate_pair", array(enc("bye"), b"\xa3\xed\xa0\x80"), SHAPE)
    yield message("nested_too_deeply", array(enc("beat"), b"\x91" * 2000 + b"\xc0"), SHAPE)
    yield message(
        "timestamp_out_of_range", array(enc("beat"), b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7), SHAPE
    )
    yield message("more_announced_than_there_is", b"\xdd\xff\xff\xff\xff" + accept, SHAPE)


def _shaped() -> Iterator[Invalid]:
    accept, refuse = enc("accept"), enc("refuse")
    one, key, net = b"\x01", enc(CALLER.ledger_public), enc(NETWORK)
    nonce = enc(NONCES["caller"])
    yield message("true_for_one", array(accept, b"\xc3"), "Expected `int`")
    yield message("float_for_one", array(accept, enc(1.0)), "Expected `int`")
    yield message("text_for_one", array(accept, enc("1")), "Expected `int`")
    yield message("nil_for_one", array(accept, b"\xc0"), "Expected `int`")
    yield message("timestamp_for_one", array(accept, b"\xd6\xff\x00\x00\x00\x01"), "Expected `int`")
    yield message("number_zero", array(accept, b"\x00"), "Expected `int` >= 1")
    yield message("number_below_zero", array(accept, b"\xff"), "Expected `int` >= 1")
    yield message("number_of_33_bits", array(accept, enc(2**32)), "Expected `int` <= 4294967295")
    yield message("unknown_message", array(enc("shout"), one), "unknown value or field at $[0]")
    yield message("no_name", array(one, one), "Expected `str`")
    yield message("message_in_a_map", enc({"type": "beat"}), "Expected `array`")
    yield message("missing_field", array(accept), "Expected `array` of at least length 2")
    yield message("network_as_text", array(enc("hello"), one, enc("n" * 8), key, nonce), "Expected `bytes`")
    yield message("network_too_short", array(enc("hello"), one, enc(NETWORK[:7]), key, nonce), "length >= 8")
    yield message("key_too_short", array(enc("hello"), one, net, enc(CALLER.ledger_public[:31]), nonce), "length >= 32")
    yield message("key_too_long", array(enc("hello"), one, net, enc(bytes(33)), nonce), "length <= 32")
    yield message("nonce_too_short", array(enc("hello"), one, net, key, enc(bytes(15))), "length >= 16")
    yield message("signature_too_short", array(enc("proof"), enc(bytes(63)), b"\x90"), "length >= 64")
    yield message("signature_missing", array(enc("proof"), enc(b""), b"\x90"), "length >= 64")
    yield message("code_too_long", array(refuse, one, enc("x" * 65)), "length <= 64")
    yield message("reason_too_long", array(refuse, one, enc("x"), enc("y" * 501)), "length <= 500")
    peers = enc([CALLER.peer_id] * 9)
    yield message("alternates_too_many", array(refuse, one, enc("x"), enc(""), b"\x00", peers), "length <= 8")
    yield message("receipts_too_many", array(enc("proof"), enc(bytes(64)), enc([b""] * 17)), "length <= 16")
    yield message("receipt_too_long", array(enc("receipt"), enc(bytes(513))), "length <= 512")
    yield message("credit_too_high", array(enc("credit"), enc([[1, 2**24 + 1]])), "Expected `int` <=")
    yield message("credit_of_nothing", array(enc("credit"), b"\x90"), "length >= 1")
    yield message("events_of_nothing", array(enc("events"), b"\x90"), "length >= 1")
    yield message(
        "unknown_event", array(enc("events"), enc([[1, {"type": "Shout"}]])), "unknown value or field at $[1][0][1]"
    )
    yield message("event_without_its_kind", array(enc("events"), enc([[1, {"text": "x"}]])), "missing required field")
    yield message("event_key_as_bytes", array(enc("events"), enc([[1, {b"type": "Heartbeat"}]])), "Expected `str`")
    reason = {"type": "ChoiceFinished", "reason": "bored"}
    yield message("unknown_reason", array(enc("events"), enc([[1, reason]])), "unknown value or field at $[1][0][1]")


def receipt(name: str, data: bytes, says: str) -> Invalid:
    """A signed receipt, to be checked whole."""
    return Invalid(name, "checked receipt", data, says)


def _over(body: bytes, *, sig_c: bytes | None = None, sig_p: bytes = b"") -> bytes:
    """A signed receipt of any body; the caller's own signature unless another is given."""
    signature = CALLER.sign_for_ledger(r.consumer_payload(body)) if sig_c is None else sig_c
    return enc([body, signature, sig_p])


def _changed(**fields: Any) -> bytes:
    return encode(msgspec.structs.replace(samples.receipt(), **fields))


def _receipts() -> Iterator[Invalid]:
    body = encode(samples.receipt())
    pieces = [enc(value) for value in msgspec.msgpack.decode(body)]
    rest = len(body) - len(b"".join(pieces[:1])) - 1
    yield receipt("seq_in_two_bytes", _over(array(*pieces[:5], b"\xcc\x07", *pieces[6:])), FORM)
    yield receipt("seq_as_float", _over(array(*pieces[:5], enc(7.0), *pieces[6:])), "Expected `int`")
    yield receipt("true_for_one_request", _over(array(*pieces[:9], b"\xc3", *pieces[10:])), "Expected `int`")
    yield receipt("seq_of_64_bits", _over(array(*pieces[:5], enc(2**63), *pieces[6:])), "Expected `int` <=")
    yield receipt("key_of_31_bytes", _over(array(*pieces[:2], enc(bytes(31)), *pieces[3:])), "length >= 32")
    yield receipt("field_missing", _over(array(*pieces[:-1])), SHAPE)
    yield receipt("field_appended", _over(array(*pieces, b"\xc0")), "of at most length 11")
    yield receipt("wrapper_field_appended", array(*(enc(x) for x in (body, bytes(64), b"", 0))), "of at most length 3")
    yield receipt("trailing_byte", _over(body) + b"\x00", SHAPE)
    yield receipt("trailing_byte_in_what_is_signed", _over(body + b"\x00"), SHAPE)
    yield receipt("array_with_long_length", _over(b"\xdc\x00\x0c" + body[1:]), FORM)
    yield receipt("other_kind", _over(array(enc("mn/rcpt/2"), *pieces[1:])), SHAPE)
    yield receipt("in_a_map", _over(enc({"seq": 7})), "Expected `array`")
    yield receipt("too_long", _over(body, sig_p=bytes(512 - rest)), "over the limit")
    yield receipt("of_another_network", _over(_changed(network=bytes(8))), "another network")
    same = _changed(provider=CALLER.ledger_public)
    yield receipt("with_oneself", _over(same), "one key")


def _signatures() -> Iterator[Invalid]:
    body = encode(samples.receipt())
    yield receipt("without_signatures", array(enc(body)), SHAPE)
    yield receipt("signature_empty", _over(body, sig_c=b""), "length >= 64")
    yield receipt("signature_of_zeros", _over(body, sig_c=bytes(64)), "consumer did not sign")
    bare = CALLER.sign_for_ledger(body)
    yield receipt("signed_without_its_purpose", _over(body, sig_c=bare), "consumer did not sign")
    by_peer_key = CALLER.sign_as_peer(r.consumer_payload(body))
    yield receipt("signed_by_the_peer_key", _over(body, sig_c=by_peer_key), "consumer did not sign")
    good = CALLER.sign_for_ledger(r.consumer_payload(body))
    yield receipt("changed_after_signing", _over(_changed(cum_uc=1), sig_c=good), "consumer did not sign")
    both = r.provider_payload(body, good)
    yield receipt("second_signature_of_zeros", _over(body, sig_p=bytes(64)), "provider did not sign")
    yield receipt("second_signature_too_short", _over(body, sig_p=bytes(63)), "neither 0 nor 64")
    yield receipt("countersigned_by_the_consumer", _over(body, sig_p=CALLER.sign_for_ledger(both)), "provider did not")
    alone = PROVIDER.sign_for_ledger(r.consumer_payload(body))
    yield receipt("countersigned_without_the_first", _over(body, sig_p=alone), "provider did not sign")
    yield receipt("signatures_swapped", _over(body, sig_c=PROVIDER.sign_for_ledger(both), sig_p=good), "consumer did")
    for key in SMALL_KEYS:
        forged = _over(_changed(consumer=key), sig_c=FORGED)
        yield receipt(f"consumer_of_small_order_{key.hex()[:4]}{key.hex()[-4:]}", forged, "small order")
    half = _over(_changed(provider=IDENTITY_KEY))
    yield receipt("provider_of_small_order", half, "small order")
    yield receipt("provider_of_small_order_forged", _over(_changed(provider=IDENTITY_KEY), sig_p=FORGED), "small order")


def told(name: str, offer: o.SignedOffer, says: str) -> Invalid:
    """A message that tells of one offer."""
    return Invalid(name, "offers told", encode(o.Told((o.Passed(offer, 0),))), says)


def _offers() -> Iterator[Invalid]:
    good, other = samples.signed_offer(), samples.signed_offer(o.encode_offer(samples.offer(models=())))
    yield told("of_another_network", samples.signed_offer(encode(samples.offer(network=bytes(8)))), "another network")
    yield told("changed_after_signing", o.SignedOffer(other.body, good.signature), "did not sign")
    yield told("not_signed", o.SignedOffer(good.body, bytes(64)), "did not sign")
    by_ledger = o.SignedOffer(good.body, PROVIDER.sign_for_ledger(o.offer_payload(good.body)))
    yield told("signed_by_the_ledger_key", by_ledger, "did not sign")
    fields = {"peer": "12D3KooW", "ttl_s": 121, "ledger": IDENTITY_KEY, "issued_ms": 2**63}
    for field, value in fields.items():
        says = {"peer": "no proper id", "ledger": "small order"}.get(field, SHAPE)
        changed = msgspec.structs.replace(samples.offer(), **{field: value})
        yield told(f"offer_with_wrong_{field}", samples.signed_offer(encode(changed)), says)
    for word, rate in (("nan", float("nan")), ("infinite", float("inf")), ("negative", -1.0)):
        model = msgspec.structs.replace(samples.OFFERED, decode_tps=rate)
        yield told(f"rate_{word}", samples.signed_offer(encode(samples.offer(models=(model,)))), SHAPE)
    body = good.body
    yield told("ttl_in_two_bytes", samples.signed_offer(body.replace(b"\x3c\x91", b"\xcc\x3c\x91", 1)), FORM)
    yield told("offer_too_long", samples.signed_offer(body + bytes(32768)), "length <= 32768")
    yield Invalid("subscribe_by_network_name", "offer message", enc(["subscribe", 1, "meshnode"]), "Expected `bytes`")


def _terms() -> Iterator[Invalid]:
    fields = msgspec.msgpack.decode(encode(samples.terms()))
    changes: dict[str, tuple[int, Any, str]] = {
        "hash_too_short": (6, bytes(31), "length >= 32"),
        "body_of_true_bytes": (7, True, "Expected `int`"),
        "tokens_below_zero": (9, -1, "Expected `int` >= 0"),
        "cost_as_float": (12, 1.5, "Expected `int`"),
        "prices_in_a_map": (14, {"input_uc": 1}, "Expected `array`"),
        "prices_too_few": (14, [1, 2, 3], SHAPE),
        "features_too_many": (10, ["x"] * 33, "length <= 32"),
        "of_another_kind": (0, "mn/rcpt/1", SHAPE),
        "no_model": (5, "", "length >= 1"),
    }
    for name, (place, value, says) in changes.items():
        yield Invalid(f"terms_{name}", "terms", enc([*fields[:place], value, *fields[place + 1 :]]), says)
    yield Invalid("terms_field_missing", "terms", enc(fields[:-1]), SHAPE)


def body(name: str, value: bytes | dict[Any, Any], says: str, error: str = "ProtocolViolation") -> Invalid:
    """The body of an ask: its bytes, or fields to be written as a body is."""
    data = value if isinstance(value, bytes) else b"\xde" + len(value).to_bytes(2, "big") + enc(value)[1:]
    return Invalid(f"body_{name}", "body", data, says, error)


def _bodies() -> Iterator[Invalid]:
    turn = {"role": "user", "parts": [{"type": "TextPart", "text": "hi"}]}
    part = {"type": "TextPart", "text": "hi", "colour": "red"}
    unknown, value = "UnknownField", "InvalidField"
    yield body("unknown_field", {"beam_width": 4}, "does not know beam_width", unknown)
    yield body("unknown_field_of_a_message", {"messages": [turn | {"mood": 1}]}, "know messages[0].mood", unknown)
    yield body(
        "unknown_field_of_a_part", {"messages": [turn, turn | {"parts": [part]}]}, "[1].parts[0].colour", unknown
    )
    yield body("unknown_field_of_sampling", {"sampling": {"heat": 1}}, "know sampling.heat", unknown)
    yield body("unknown_field_with_odd_name", {"a b": 1}, "a field without a proper name", unknown)
    yield body(
        "unknown_kind_of_part", {"messages": [turn | {"parts": [{"type": "VideoPart"}]}]}, "parts[0].type", value
    )
    yield body("unknown_role", {"messages": [turn | {"role": "critic"}]}, "messages[0].role has a value", value)
    yield body("field_name_as_bytes", {b"echo": True}, "Expected `str`")
    yield body("one_for_true", {"echo": 1}, "Expected `bool`")
    yield body("whole_number_for_float", b"\xde\x00\x01\xa8sampling\xde\x00\x01\xabtemperature\x00", FORM)
    yield body("default_written_out", {"echo": False}, FORM)
    yield body("fields_in_another_order", {"echo": True, "suffix": "x"}, FORM)
    yield body("short_count", enc({"echo": True}), FORM)
    yield body("field_twice", b"\xde\x00\x02" + b"\xa4echo\xc3" * 2, FORM)
    yield body("trailing_byte", b"\xde\x00\x00\x00", SHAPE)
    yield body("of_nothing", b"", SHAPE)


def invalid() -> list[dict[str, str]]:
    """Every invalid vector."""
    groups = (_spelled(), _shaped(), _receipts(), _signatures(), _offers(), _terms(), _bodies())
    found = [each for group in groups for each in group]
    return [
        {"name": each.name, "decoder": each.decoder, "hex": each.data.hex(), "error": each.error, "says": each.says}
        for each in found
    ]
