"""MessagePack with one encoding for each value: what is signed or compared must not have two spellings. Pure.

MessagePack lets a number or a length be written in more bytes than it needs, and a map repeat a key. A signature over
such bytes would be good for a value that also has another spelling. So whatever comes from a peer is decoded and
encoded again, and refused unless the same bytes come out.

Two strengths. :func:`exact` compares the encoding of the typed value, so that an unknown field, however small, is
refused, and so is a whole number for a float. :func:`tolerant` falls back on the encoding of the bare value where a
later version appended fields or another implementation wrote what ours leaves out, and ignores those. A bare value may
take seventy times its bytes, so that what is not known to this version is bounded by :data:`APPENDED`.
"""

from __future__ import annotations

import re
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from meshnode.errors import ProtocolViolation

T = TypeVar("T")

APPENDED: Final = 64 << 10
"""Bytes of one message that this version need not know, at most."""
FAULTS: Final = (msgspec.DecodeError, ValueError, TypeError, RecursionError, OverflowError)
"""What decoding raises."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_BARE: Final = msgspec.msgpack.Decoder()
_ENCODING: Final = (msgspec.EncodeError, ValueError, TypeError, RecursionError, OverflowError)
_PLACE: Final = re.compile(r" - at (?:`key` in )?`(\$[\w.\[\]]*)`\Z")


def encode(value: object) -> bytes:
    """The one encoding of a record or a plain value.

    Raises ProtocolViolation for what has none: an integer beyond 64 bits, half a surrogate pair.
    """
    try:
        return _ENCODER.encode(value)
    except _ENCODING:
        raise ProtocolViolation("a value has no encoding: an integer is too large, or a text is no Unicode.") from None


def exact(data: bytes, decoder: msgspec.msgpack.Decoder[T], *, what: str) -> T:
    """The value of ``data``, which must be encoded as we would. Raises ProtocolViolation that says ``what`` it is."""
    value: T = _decoded(data, decoder, what)
    if encode(value) != data:
        raise ProtocolViolation(f"{what} is not in its one encoding, or holds fields this version does not know.")
    return value


def tolerant(data: bytes, decoder: msgspec.msgpack.Decoder[T], *, what: str) -> T:
    """The value of ``data`` without the fields a later version appended. Raises ProtocolViolation."""
    value: T = _decoded(data, decoder, what)
    again = encode(value)
    if again == data:
        return value
    if len(data) - len(again) > APPENDED:
        raise ProtocolViolation(f"{what} holds over {APPENDED} bytes that this version does not know.")
    if encode(_decoded(data, _BARE, what)) != data:
        raise ProtocolViolation(f"{what} is not in its one encoding.")
    return value


def unreadable(what: str, error: Exception) -> NoReturn:
    """Raises ProtocolViolation that says what was wrong with ``what`` and where; never a value of the peer's."""
    raise ProtocolViolation(f"{what} cannot be read: {_reason(error)}.") from None


def place(error: Exception) -> str:
    """Where msgspec found a fault, as ``$.field[0]``; empty when it does not say."""
    found = _PLACE.search(str(error))
    return found[1][:100] if found else ""


def _decoded(data: bytes, decoder: msgspec.msgpack.Decoder[Any], what: str) -> Any:
    try:
        return decoder.decode(data)
    except FAULTS as error:
        unreadable(what, error)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    wanted, where = re.split(", got | - at ", str(error))[0], place(error)
    if not isinstance(error, msgspec.ValidationError) or not error.args:
        return "malformed MessagePack"
    if not wanted.startswith(("Expected `", "Object missing required field `")):
        wanted = "unknown value or field"
    return f"{wanted[:160]} at {where}" if where else wanted[:160]
