"""Prices: never less for more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.ledger.pricing import CREDIT, REQUEST_UC, cost, prices_for
from meshnode.wire.fields import Prices

PARAMETERS = st.integers(0, 2 * 10**12)
TOKENS = st.integers(0, 10**6)
PRICES = st.builds(Prices, *[st.integers(0, 10**5)] * 4)


def test_a_credit_is_a_thousand_tokens_of_an_eight_billion_model() -> None:
    assert 1000 * prices_for(8_030_000_000).output_uc == CREDIT
    assert prices_for(8_190_000_000) == Prices(input_uc=125, cached_uc=20, output_uc=1000, request_uc=REQUEST_UC)


def test_a_small_model_is_not_free_and_an_unknown_one_is_the_cheapest() -> None:
    assert prices_for(135_000_000) == prices_for(0) == Prices(15, 2, 125, REQUEST_UC)
    assert prices_for(10**13).output_uc == 60_000


@given(PARAMETERS, PARAMETERS)
def test_a_larger_model_never_costs_less(one: int, other: int) -> None:
    small, large = prices_for(min(one, other)), prices_for(max(one, other))
    assert all(getattr(small, name) <= getattr(large, name) for name in Prices.__struct_fields__)
    assert 0 < small.cached_uc <= small.input_uc <= small.output_uc


@given(PRICES, TOKENS, TOKENS, TOKENS, st.sampled_from(["prompt", "cached", "output"]), st.integers(1, 10**4))
def test_more_tokens_never_cost_less(
    prices: Prices, prompt: int, cached: int, output: int, which: str, more: int
) -> None:
    tokens = {"prompt": prompt, "cached": cached, "output": output}
    before = cost(prices, **tokens)
    after = cost(prices, **{**tokens, which: tokens[which] + more})
    assert before <= after
    assert after >= prices.request_uc


def test_what_was_not_delivered_costs_nothing_and_anything_costs_a_request() -> None:
    prices = prices_for(8 * 10**9)
    assert cost(prices, prompt=0, cached=0, output=0) == 0
    assert cost(prices, prompt=1, cached=0, output=0) == REQUEST_UC
    assert cost(prices, prompt=100, cached=50, output=200) == 100 * 125 + 50 * 20 + 200 * 1000
