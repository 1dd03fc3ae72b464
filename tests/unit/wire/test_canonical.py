"""One encoding for each value: another spelling is refused, whatever it says; so is what would cost more than it is."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import encode as enc

from meshnode.errors import ProtocolViolation
from meshnode.wire.canonical import APPENDED, encode, exact, place, tolerant, unreadable


class Pair(msgspec.Struct, array_like=True, tag="pair"):
    """What travels here."""

    number: int
    rate: float = 0.0
    words: tuple[str, ...] = ()


class Named(msgspec.Struct, omit_defaults=True):
    """What travels in a map."""

    name: str = ""
    count: int = 0


PAIR = msgspec.msgpack.Decoder(Pair)
NAMED = msgspec.msgpack.Decoder(Named)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@given(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.lists(st.text(), max_size=4))
def test_what_is_encoded_is_read_both_ways(number: int, rate: float, words: list[str]) -> None:
    pair = Pair(number, rate, tuple(words))
    assert exact(encode(pair), PAIR, what="a pair") == pair
    assert tolerant(encode(pair), PAIR, what="a pair") == pair


@given(st.lists(values, min_size=1, max_size=3))
def test_what_a_later_version_appended_is_ignored_or_refused(appended: list[Any]) -> None:
    data = enc(["pair", 1, 1.5, ["x"], *appended])
    assert tolerant(data, PAIR, what="a pair") == Pair(1, 1.5, ("x",))
    with pytest.raises(ProtocolViolation, match="a pair is not in its one encoding"):
        exact(data, PAIR, what="a pair")


SPELLED = {
    "integer in two bytes": b"\x94\xa4pair\xcc\x01" + enc(1.5) + b"\x90",
    "integer in five bytes": b"\x94\xa4pair\xce\0\0\0\x01" + enc(1.5) + b"\x90",
    "signed integer": b"\x94\xa4pair\xd0\x01" + enc(1.5) + b"\x90",
    "short float": b"\x94\xa4pair\x01\xca\x3f\xc0\0\0\x90",
    "long array": b"\xdc\0\x04\xa4pair\x01" + enc(1.5) + b"\x90",
    "long text": b"\x94\xd9\x04pair\x01" + enc(1.5) + b"\x90",
    "long list inside": b"\x94\xa4pair\x01" + enc(1.5) + b"\xdc\0\0",
    "long spelling in what is appended": b"\x95\xa4pair\x01" + enc(1.5) + b"\x90\xcc\x01",
}


@pytest.mark.parametrize("data", SPELLED.values(), ids=SPELLED)
def test_a_second_spelling_is_refused(data: bytes) -> None:
    assert isinstance(PAIR.decode(data), Pair), "msgspec reads it"
    for strict in (exact, tolerant):
        with pytest.raises(ProtocolViolation, match="not in its one encoding"):
            strict(data, PAIR, what="a pair")


def test_a_whole_number_for_a_float_is_another_spelling_only_where_it_is_exact() -> None:
    data = enc(["pair", 1, 2, []])
    assert tolerant(data, PAIR, what="a pair") == Pair(1, 2.0, ())
    with pytest.raises(ProtocolViolation):
        exact(data, PAIR, what="a pair")


def test_what_is_left_out_may_be_written_only_where_it_is_not_exact() -> None:
    data = enc({"name": "n", "count": 0})
    assert tolerant(data, NAMED, what="a name") == exact(enc({"name": "n"}), NAMED, what="a name") == Named("n")
    with pytest.raises(ProtocolViolation):
        exact(data, NAMED, what="a name")


def test_a_key_that_comes_twice_is_refused() -> None:
    data = b"\x82" + b"\xa4name\xa1n" * 2
    assert NAMED.decode(data) == Named("n")
    for strict in (exact, tolerant):
        with pytest.raises(ProtocolViolation):
            strict(data, NAMED, what="a name")


@given(st.binary(max_size=60))
def test_garbage_is_a_violation_or_has_one_spelling(data: bytes) -> None:
    with suppress(ProtocolViolation):
        assert encode(exact(data, PAIR, what="garbage")) == data
    with suppress(ProtocolViolation):
        assert encode(exact(data, NAMED, what="garbage")) == data


@pytest.mark.parametrize("depth", [1, 100, 2000, 100_000])
def test_nesting_is_refused_not_followed(depth: int) -> None:
    data = b"\x95\xa4pair\x01" + enc(1.5) + b"\x90" + b"\x91" * depth + b"\xc0"
    if depth <= 100:
        assert tolerant(data, PAIR, what="a pair") == Pair(1, 1.5, ())
    else:
        with pytest.raises(ProtocolViolation, match="a pair cannot be read: nested too deeply"):
            tolerant(data, PAIR, what="a pair")


@pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\xc0", b"\x01"])
def test_what_is_not_known_is_bounded_before_it_costs_memory(item: bytes) -> None:
    """An empty map is one byte on the wire and seventy in memory."""
    count = 1_000_000
    data = b"\x95\xa4pair\x01" + enc(1.5) + b"\x90" + b"\xdd" + count.to_bytes(4, "big") + item * count
    tracemalloc.start()
    with pytest.raises(ProtocolViolation, match=f"over {APPENDED} bytes that this version does not know"):
        tolerant(data, PAIR, what="a pair")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_something_is_left_to_later_versions() -> None:
    data = enc(["pair", 1, 1.5, [], bytes(APPENDED - 10)])
    assert tolerant(data, PAIR, what="a pair") == Pair(1, 1.5, ())


@pytest.mark.parametrize("value", ["\ud800", 2**64, -(2**63) - 1, [{"x": "\udfff"}], object()])
def test_what_has_no_encoding_is_a_violation(value: object) -> None:
    with pytest.raises(ProtocolViolation, match="no encoding"):
        encode(value)


SECRETS = {
    "unknown tag": enc(["SECRET", 1, 1.0, []]),
    "wrong type": enc(["pair", "SECRET", 1.0, []]),
    "too short": enc(["pair"]),
    "no array": enc("SECRET"),
    "cut off": enc(["pair", "SECRET"])[:-1],
}


@pytest.mark.parametrize("data", SECRETS.values(), ids=SECRETS)
def test_a_refusal_says_what_and_where_but_nothing_of_the_peers(data: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        tolerant(data, PAIR, what="a pair")
    assert caught.value.message.startswith("a pair cannot be read: ")
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_place_of_a_fault_is_said() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        PAIR.decode(enc(["pair", 1, 1.0, ["x", 2]]))
    assert place(caught.value) == "$[3][1]"
    assert place(ValueError("x - at `$.a b`")) == ""
    with pytest.raises(ProtocolViolation, match=r"a pair cannot be read: Expected `str` at \$\[3\]\[1\]\.$"):
        unreadable("a pair", caught.value)
