"""How things are written for people."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.cli.show import credit, duration, labelled, one_line, printable, short_peer, size, table


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (98_362_432, "98 MB"), (999_600_000, "1.0 GB"),
     (4_700_000_000, "4.7 GB"), (123_000_000_000, "123 GB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (45, "45 s"), (200, "3 min 20 s"), (3600, "1 h"), (187_261, "2 d 4 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text())
def test_nothing_printable_steers_a_terminal(text: str) -> None:
    assert all(letter in "\n\t" or unicodedata.category(letter) != "Cc" for letter in printable(text))
    assert "\n" not in one_line(text)


def test_printable_keeps_what_people_write() -> None:
    assert printable("Grüße,\n\t世界 👋🏽") == "Grüße,\n\t世界 👋🏽"


def test_a_table_has_columns_as_wide_as_they_need() -> None:
    assert table(("A", "B"), [("long", "x"), ("s", "")]) == "A      B\nlong   x\ns"


def test_labels_stand_before_each_value_and_empty_ones_are_left_out() -> None:
    assert labelled([("One", "1"), ("Two", ""), ("Three", "a\nb")]) == "One    1\nThree  a\n       b"


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "0"), (1, "0.000001"), (42, "0.000042"), (1_500_000, "1.5"), (2_000_000, "2"), (-1_234_567, "-1.234567"),
     (10**18 + 1, "1000000000000.000001")],
)  # fmt: skip
def test_credits_lose_nothing(micro: int, text: str) -> None:
    assert credit(micro) == text


def test_a_peer_is_told_by_the_ends_of_its_id() -> None:
    assert short_peer("12D3KooWabcdefghijklmnop") == "12D3…klmnop"
    assert short_peer("12D3KooWtest") == "12D3KooWtest"
