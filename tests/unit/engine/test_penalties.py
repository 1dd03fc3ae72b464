"""Bias and penalties, by example; that they do what llama.cpp's do, the contract suite shows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.penalties import Bias, Penalties
from meshnode.errors import InvalidField


def penalised(how: Sampling, history: list[int], *logits: float) -> list[float]:
    """Logits after the penalties."""
    row: Logits = np.array(logits, dtype=np.float32)
    Penalties(how, history).penalise(row)
    return [round(float(value), 4) for value in row]


def test_the_repeat_penalty_makes_both_signs_less_likely() -> None:
    assert penalised(Sampling(repeat_penalty=2.0), [0, 1], 4, -4, 4) == [2, -8, 4]


def test_frequency_counts_and_presence_does_not() -> None:
    how = Sampling(frequency_penalty=0.5, presence_penalty=1.0)
    assert penalised(how, [0, 0, 0, 1], 5, 5, 5) == [2.5, 3.5, 5]


def test_tokens_the_row_lacks_are_left_out() -> None:
    assert penalised(Sampling(presence_penalty=1.0), [-1, 7, 0], 5, 5) == [4, 5]


@pytest.mark.parametrize(("last_n", "expected"), [(-1, [4, 4, 4]), (0, [5, 5, 5]), (1, [5, 5, 4]), (2, [5, 4, 4])])
def test_only_the_last_tokens_count(last_n: int, expected: list[float]) -> None:
    penalties = Penalties(Sampling(presence_penalty=1.0, repeat_last_n=last_n), [0])
    for token in (1, 2):
        penalties.accept(token)
    row: Logits = np.full(3, 5, dtype=np.float32)
    penalties.penalise(row)
    assert row.tolist() == expected
    assert bool(penalties) == (last_n != 0)


def test_nothing_is_counted_where_nothing_is_penalised() -> None:
    assert not Penalties(Sampling(), [1, 2, 3])


def test_of_a_token_named_twice_the_last_bias_counts() -> None:
    row: Logits = np.zeros(3, dtype=np.float32)
    Bias(((1, 5.0), (2, 1e300), (1, -2.0))).add(row)
    assert row.tolist() == [0, -2, math.inf]
    assert not Bias(())


@pytest.mark.parametrize("token", [-1, 3, 10**30])
def test_a_bias_for_a_token_the_model_lacks_is_named(token: int) -> None:
    with pytest.raises(InvalidField, match=f"token {token}, but the model has 3 tokens") as caught:
        Bias(((0, 1.0), (token, 1.0))).add(np.zeros(3, dtype=np.float32))
    assert caught.value.param == "logit_bias"


def test_a_bias_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidField, match="logit_bias of token 1 is not a number"):
        Bias(((1, math.nan),))


@given(st.lists(st.integers(0, 600), max_size=700), st.sampled_from([-1, 1, 2, 50, 300]))
def test_what_is_counted_from_token_to_token_is_what_is_counted_anew(history: list[int], last_n: int) -> None:
    how = Sampling(frequency_penalty=1.0, presence_penalty=0.25, repeat_last_n=last_n)
    penalties = Penalties(how, history[:3])
    for token in history[3:]:
        penalties.accept(token)
    row: Logits = np.zeros(601, dtype=np.float32)
    penalties.penalise(row)
    window = history if last_n < 0 else history[-last_n:]
    assert {token: -row[token] - 0.25 for token in np.flatnonzero(row)} == Counter(window)
