"""The points of small order are worked out here from the curve's equation, not copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.curve import of_small_order
from meshnode.identity import Identity
from wiring.invalid import SMALL_KEYS

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """The sum of two points of edwards25519 (RFC 8032 section 5.1, in affine coordinates)."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P
    return x, y


def times(count: int, point: Point) -> Point:
    """A multiple of a point."""
    total = IDENTITY
    for bit in bin(count)[2:]:
        total = add(total, total)
        total = add(total, point) if bit == "1" else total
    return total


def root(square: int) -> int | None:
    """A square root modulo P, if there is one (P is 5 modulo 8)."""
    candidate = pow(square, (P + 3) // 8, P)
    for x in (candidate, candidate * pow(2, (P - 1) // 4, P) % P):
        if x * x % P == square % P:
            return x
    return None


def point_at(y: int) -> Point | None:
    """A point of that height, if the curve has one."""
    x = root((y * y - 1) * pow(D * y * y + 1, P - 2, P) % P)
    return None if x is None else (x, y)


def torsion() -> set[Point]:
    """The eight points whose order divides 8: what is left of any point when its large part is taken out."""
    large = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 1000):
        point = point_at(y)
        generator = IDENTITY if point is None else times(large, point)
        if times(4, generator) != IDENTITY:
            return {times(count, generator) for count in range(8)}
    raise AssertionError("no point of order 8")


def encodings(point: Point) -> set[bytes]:
    """Every 32 bytes that a lenient reader takes for the point: y or y + P, where that fits, and either sign of x."""
    x, y = point
    heights = [height for height in (y, y + P) if height < 2**255]
    signs = (0, 1) if x == 0 else (x & 1,)
    return {(height | sign << 255).to_bytes(32, "little") for height in heights for sign in signs}


EIGHT = torsion()
ENCODINGS = sorted({data for point in EIGHT for data in encodings(point)})


def test_there_are_eight_points_of_small_order() -> None:
    assert len(EIGHT) == 8
    assert IDENTITY in EIGHT
    assert all(times(8, point) == IDENTITY for point in EIGHT)
    assert len(ENCODINGS) == 14, "two heights have two spellings each, and where x is 0 its sign is another"


@pytest.mark.parametrize("data", ENCODINGS, ids=bytes.hex)
def test_every_encoding_of_them_is_known(data: bytes) -> None:
    assert of_small_order(data)


def test_the_vectors_hold_each_of_them() -> None:
    assert sorted(SMALL_KEYS) == ENCODINGS


@given(st.binary(min_size=32, max_size=32))
def test_keys_are_not_of_small_order(seed: bytes) -> None:
    identity = Identity(seed, seed)
    assert not of_small_order(identity.peer_public)


@given(st.binary(min_size=32, max_size=32))
def test_what_a_multiple_of_eight_leaves_standing_is_not_of_small_order(data: bytes) -> None:
    y = int.from_bytes(data, "little") % P
    point = point_at(y)
    if point is not None:
        small = times(8, point) == IDENTITY
        assert {of_small_order(encoding) for encoding in encodings(point)} == {small}


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_other_lengths_are_no_points(length: int) -> None:
    assert not of_small_order(bytes(length))
