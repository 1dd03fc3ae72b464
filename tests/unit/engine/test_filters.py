"""The filters keep what their papers say; that they keep what llama.cpp's keep, the contract suite shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.filters import Candidates, Chain, best, everything, min_p, tamed, tempered, top_p, typical, xtc

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
possible = st.floats(-20, 20, width=32) | st.sampled_from([0.0, 1.5, -math.inf])


def row_of(values: list[float]) -> Logits:
    """Logits as a backend gives them."""
    return np.array(values, dtype=np.float32)


def of(*probabilities: float) -> Candidates:
    """Candidates of these probabilities, best first."""
    return Candidates(np.arange(len(probabilities)), np.log(np.array(probabilities)))


def left(row: Logits, chance: float = 0.5, **fields: float) -> list[int]:
    """Tokens that are left of a row."""
    how = Sampling(**OFF | fields)  # type: ignore[arg-type]
    return [int(token) for token in Chain(how, row.size).narrow(row, lambda: chance).tokens]


@settings(deadline=None)
@given(st.lists(possible, min_size=1, max_size=60), st.integers(1, 1600), st.booleans())
def test_best_is_a_stable_sort_of_what_is_possible_cut_off(values: list[float], k: int, long: bool) -> None:
    row = np.resize(row_of(values), 1500) if long else row_of(values)
    found = best(row, k)
    order = sorted(np.flatnonzero(row > -np.inf).tolist(), key=lambda token: (-row[token], token))[:k]
    assert found.tokens.tolist() == order
    assert found.logits.tolist() == [float(row[token]) for token in order]


def test_everything_is_all_that_is_possible() -> None:
    assert everything(row_of([1, -math.inf, 3])).tokens.tolist() == [0, 2]


def test_top_p_and_min_p_keep_at_least_one() -> None:
    assert top_p(of(0.5, 0.3, 0.2), 0.79).tokens.tolist() == [0, 1]
    assert top_p(of(0.5, 0.3, 0.2), 0.0).tokens.tolist() == [0]
    assert min_p(of(0.5, 0.3, 0.2), math.log(0.5)).tokens.tolist() == [0, 1]
    assert min_p(of(0.5, 0.3, 0.2), math.log(9)).tokens.tolist() == [0]


def test_typical_keeps_what_is_about_as_surprising_as_can_be_expected() -> None:
    candidates = of(0.5, 0.2, 0.1, 0.1, 0.1)  # entropy 1.36 nats; surprises 0.69, 1.61, 2.30
    assert typical(candidates, 0.15).tokens.tolist() == [1]
    assert typical(candidates, 0.3).tokens.tolist() == [0, 1]
    assert typical(candidates, 0.75).tokens.tolist() == [0, 1, 2]
    assert typical(of(0.25, 0.25, 0.25, 0.25), 0.4).tokens.tolist() == [0, 1]


def test_typical_sorts_a_few_of_many_and_all_where_it_must() -> None:
    row = np.random.default_rng(2).standard_normal(4000)
    candidates = Candidates(np.arange(4000), row)
    mass = np.exp(row) / np.exp(row).sum()
    strange = np.abs(-np.log(mass) + (mass * np.log(mass)).sum())
    order = np.argsort(strange, kind="stable")
    for p in (0.01, 0.5, 0.99):
        enough = int((np.cumsum(mass[order]) <= p).sum()) + 1
        found = typical(candidates, p)
        assert set(found.tokens.tolist()) == set(order[:enough].tolist())
        assert (np.diff(found.logits) <= 0).all()


def test_xtc_drops_all_but_the_least_of_the_tops() -> None:
    assert xtc(of(0.4, 0.3, 0.2, 0.1), 0.2).tokens.tolist() == [2, 3]
    assert xtc(of(0.4, 0.3, 0.2, 0.1), 0.35).tokens.tolist() == [0, 1, 2, 3]
    assert xtc(of(0.4, 0.3, 0.3), 0.25).tokens.tolist() == [2]
    unsorted = Candidates(np.array([3, 5, 9]), np.log([0.2, 0.3, 0.5]))
    assert xtc(unsorted, 0.25).tokens.tolist() == [3, 5]


def test_xtc_acts_as_often_as_it_should_and_never_above_half() -> None:
    row = np.log(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32))
    assert left(row, chance=0.29, xtc_probability=0.3, xtc_threshold=0.15) == [2, 3]
    assert left(row, chance=0.31, xtc_probability=0.3, xtc_threshold=0.15) == [0, 1, 2, 3]
    assert left(row, chance=0.0, xtc_probability=1.0, xtc_threshold=0.51) == [0, 1, 2, 3]


def test_top_n_sigma_keeps_what_is_near_the_largest_logit() -> None:
    row = row_of([10, 9, 8, 0, 0, 0, 0, 0, -math.inf])  # standard deviation of the possible: 4.4
    assert left(row, top_n_sigma=0.3) == [0, 1]
    assert left(row, top_n_sigma=0.3, top_k=1) == [0]
    assert left(row, top_n_sigma=1e300) == left(row, top_n_sigma=math.inf) == list(range(8))


def test_a_temperature_changes_distances_only() -> None:
    found = tempered(of(0.5, 0.25), 2.0)
    assert found.logits.tolist() == pytest.approx([0.0, -math.log(2) / 2])
    assert tempered(of(0.5, 0.25), math.inf).logits.tolist() == pytest.approx([0.0, 0.0])


def test_what_is_not_finite_is_impossible_or_certain() -> None:
    assert tamed(row_of([math.nan, 1, 2])).tolist() == [-math.inf, 1, 2]
    assert tamed(row_of([math.nan, math.inf, 2])).tolist() == [-math.inf, 0, -math.inf]


@settings(deadline=None)
@given(
    st.lists(possible, min_size=1, max_size=40),
    st.sampled_from([0, 1, 3, 40]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.sampled_from([-1.0, 1.0]),
    st.sampled_from([0.0, 1.0]),
)
def test_a_chain_leaves_at_least_one_possible_token_and_none_twice(
    values: list[float], k: int, p: float, least: float, typical_p: float, sigma: float, crossed: float
) -> None:
    row = row_of([*values, 1.0])
    fields = {"top_k": k, "top_p": p, "min_p": least, "typical_p": typical_p, "top_n_sigma": sigma}
    kept = left(row, chance=0.0, xtc_probability=crossed, **fields)
    assert kept
    assert len(set(kept)) == len(kept)
    assert (row[kept] > -np.inf).all()
    assert crossed or typical_p < 1 or int(row.argmax()) in kept
