"""The arithmetic on which bars are judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.figures import (
    FIGURES,
    OURS,
    THEIRS,
    Bar,
    Figure,
    gained,
    gaps_during,
    outcome,
    percentile,
    rank_correlation,
    slope,
)

SPEED = Figure("one", "speed", "speed", "tok/s", True, Bar(gain=0.98))
WAIT = Figure("one", "wait", "wait", "ms", False, Bar(gain=10.0))


def test_more_is_better_for_a_speed() -> None:
    found = outcome(SPEED, {"speed": {OURS: [98.0, 1.0, 300.0], THEIRS: [100.0]}})
    assert found.medians == {OURS: 98.0, THEIRS: 100.0}
    assert found.gain == pytest.approx(0.98)
    assert found.met is True


def test_less_is_better_for_a_wait() -> None:
    found = outcome(WAIT, {"wait": {OURS: [11.0], THEIRS: [100.0]}})
    assert found.gain == pytest.approx(100 / 11)
    assert found.met is False


def test_nothing_is_judged_without_the_other_server() -> None:
    assert outcome(WAIT, {"wait": {OURS: [11.0]}}).met is None
    assert outcome(WAIT, {}).medians == {}


@pytest.mark.parametrize(
    ("bar", "ours", "met"),
    [(Bar(least=0.9), 0.9, True), (Bar(least=0.9), 0.89, False), (Bar(most=16), 16, True), (Bar(most=16), 17, False)],
)
def test_a_bar_of_our_own_needs_no_other_server(bar: Bar, ours: float, met: bool) -> None:
    assert bar.met(ours, None) is met


def test_bars_are_written_as_a_person_reads_them() -> None:
    assert [str(bar) for bar in (Bar(gain=8.0), Bar(least=0.9), Bar(most=16))] == ["≥ 8 ×", "≥ 0.9", "≤ 16"]


def test_a_zero_has_no_ratio() -> None:
    assert gained(0.0, 5.0, more_is_better=False) is None


def test_every_figure_has_a_key_of_its_own() -> None:
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_covers_the_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_stream_that_stands_still_counts_with_its_whole_gap() -> None:
    assert gaps_during([0.0, 1.0, 2.0, 9.0, 10.0], begin=3.0, end=5.0) == [7.0]
    assert gaps_during([0.0, 1.0, 2.0, 3.0], begin=0.5, end=2.0) == [1.0, 1.0]


def test_order_kept_order_reversed_and_ties() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 99]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 2, 3, 4], [1, 1, 2, 2]) == pytest.approx(0.894, abs=1e-3)
    assert rank_correlation([1, 1], [1, 2]) == 0.0
    with pytest.raises(ValueError, match="two"):
        rank_correlation([1], [1])


@given(st.floats(-100, 100), st.floats(-100, 100), st.sets(st.integers(0, 1000), min_size=2, max_size=20))
def test_the_slope_of_a_line_is_its_own(rise: float, start: float, at: set[int]) -> None:
    assert slope([(x, start + rise * x) for x in at]) == pytest.approx(rise, abs=1e-6, rel=1e-6)


def test_no_slope_where_there_is_no_line() -> None:
    assert slope([]) == slope([(1.0, 5.0)]) == slope([(1.0, 5.0), (1.0, 6.0)]) == 0.0
