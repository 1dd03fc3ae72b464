"""What each kind of setting takes, from text and from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import kinds
from meshnode.kinds import Kind

TAKEN = [
    (kinds.address(), "127.0.0.1:9337", "127.0.0.1:9337"),
    (kinds.address(), "[::1]:0", "[::1]:0"),
    (kinds.address(), "localhost:80", "localhost:80"),
    (kinds.multiaddr(), "/ip6/::1/tcp/1", "/ip6/::1/tcp/1"),
    (kinds.multiaddr(), "/dns4/a.example/tcp/1/p2p/12D3KooWx", "/dns4/a.example/tcp/1/p2p/12D3KooWx"),
    (kinds.integer(-1, 5), "-1", -1),
    (kinds.number(0, 10), "2.5", 2.5),
    (kinds.size(1, 1 << 30), "32 MiB", 32 << 20),
    (kinds.size(1, 1 << 30), "4096", 4096),
    (kinds.switch(), "Yes", True),
    (kinds.switch(), "0", False),
    (kinds.path(), "a/b", Path("a/b")),
    (kinds.listing(kinds.text()), "a, b,", ("a", "b")),
    (kinds.choice("debug", "info"), "info", "info"),
]
REFUSED = [
    (kinds.address(), "9337"),
    (kinds.address(), "127.0.0.1:65536"),
    (kinds.address(), "::1:80"),
    (kinds.address(), "http://127.0.0.1:1"),
    (kinds.multiaddr(), "127.0.0.1:9338"),
    (kinds.integer(0, 5), "6"),
    (kinds.integer(0, 5), "2.0"),
    (kinds.number(0, 10), "nan"),
    (kinds.number(0, 10), "inf"),
    (kinds.size(1, 10), "11"),
    (kinds.size(1, 1 << 40), "3 MB"),
    (kinds.switch(), "maybe"),
    (kinds.path(), "a\0b"),
    (kinds.choice("debug", "info"), "inf"),
    (kinds.listing(kinds.multiaddr()), "/ip4/1.2.3.4/tcp/1,nonsense"),
]
MISTYPED = [
    (kinds.integer(0, 5), "3"),
    (kinds.integer(0, 5), True),
    (kinds.integer(0, 5), 3.0),
    (kinds.number(0, 5), False),
    (kinds.switch(), 1),
    (kinds.switch(), "true"),
    (kinds.text(), 5),
    (kinds.listing(kinds.text()), "a"),
    (kinds.listing(kinds.text()), [1]),
    (kinds.size(1, 10), True),
]


@pytest.mark.parametrize(("kind", "text", "value"), TAKEN)
def test_text_becomes_a_value(kind: Kind, text: str, value: object) -> None:
    assert kind.from_text(text) == value


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_text_that_is_not_allowed_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError):
        kind.from_text(text)


@pytest.mark.parametrize(("kind", "value"), MISTYPED)
def test_a_value_of_another_type_is_refused(kind: Kind, value: object) -> None:
    with pytest.raises(ValueError):
        kind.parse(value)


@given(st.integers(-5, 15))
def test_an_integer_is_taken_in_its_range_only(value: int) -> None:
    kind = kinds.integer(0, 10)
    if 0 <= value <= 10:
        assert kind.from_text(str(value)) == kind.parse(value) == value
    else:
        with pytest.raises(ValueError):
            kind.parse(value)


@given(st.text())
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    every = (kinds.text(), kinds.address(), kinds.multiaddr(), kinds.path(), kinds.number(0, 1), kinds.integer(0, 1))
    for kind in (*every, kinds.size(0, 1), kinds.switch(), kinds.listing(kinds.multiaddr())):
        try:
            kind.from_text(text)
        except ValueError:
            continue
