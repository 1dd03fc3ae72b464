"""Each type of field takes its range and nothing beside it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshnode.wire import fields as f

CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "U32": (f.U32, [0, 2**32 - 1], [-1, 2**32, True, 1.0, "1", None]),
    "U63": (f.U63, [0, 2**63 - 1], [-1, 2**63, 2**64 - 1, True, 1.0]),
    "Number": (f.Number, [1, 2**32 - 1], [0, -1, 2**32, True]),
    "Net": (f.Net, [bytes(8)], [bytes(7), bytes(9), "n" * 8, [0] * 8]),
    "Key": (f.Key, [bytes(32)], [bytes(31), bytes(33), b"", "k" * 32]),
    "Hash": (f.Hash, [bytes(32)], [bytes(31), bytes(33)]),
    "Sig": (f.Sig, [bytes(64)], [bytes(63), bytes(65), b"", "s" * 64]),
    "Nonce": (f.Nonce, [bytes(16)], [bytes(15), bytes(17)]),
    "Name": (f.Name, ["m", "ü" * 200], ["", "x" * 201, b"m", 1]),
    "Word": (f.Word, ["", "x" * 64], ["x" * 65, b""]),
    "Line": (f.Line, ["", "x" * 500], ["x" * 501, None]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_field_has_its_bounds(name: str) -> None:
    kind, good, bad = CASES[name]
    decoder = msgspec.msgpack.Decoder(kind)
    assert [decoder.decode(msgspec.msgpack.encode(value)) for value in good] == good
    for value in bad:
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.msgpack.encode(value))


def test_a_record_on_the_wire_is_an_array_in_the_order_of_its_fields() -> None:
    prices = f.Prices(input_uc=1, cached_uc=2, output_uc=3, request_uc=4)
    assert msgspec.msgpack.encode(prices) == b"\x94\x01\x02\x03\x04"
    assert msgspec.msgpack.decode(b"\x95\x01\x02\x03\x04\xc0", type=f.Prices) == prices


def test_a_database_column_holds_every_integer() -> None:
    assert f.UINT.to_bytes(8, "big", signed=True)
    with pytest.raises(OverflowError):
        (f.UINT + 1).to_bytes(8, "big", signed=True)
