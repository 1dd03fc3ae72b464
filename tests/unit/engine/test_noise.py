"""Noise is a function of its place alone, and uniform, whichever way the places go."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.engine.noise import XTC_LANE, noise, uniform
from tests.kit.splitmix import gumbel, splitmix64

seeds = st.integers(-(2**63), 2**64 - 1)


def test_the_reference_stream_is_splitmix64() -> None:
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert list(islice(splitmix64(1234567), 5)) == known


@settings(deadline=None)
@given(seeds, st.integers(0, 8), st.integers(0, 40), st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_noise_is_what_the_nested_streams_give(seed: int, choice: int, position: int, tokens: list[int]) -> None:
    found = noise(seed, choice, position, np.array(tokens, dtype=np.int64))
    assert found == pytest.approx([gumbel(seed, choice, position, token) for token in tokens], rel=1e-12)


def test_a_whole_vocabularys_noise_is_that_of_its_parts() -> None:
    tokens = np.arange(20_000)
    whole = noise(1, 2, 3, tokens)
    for part in (tokens[:3], tokens[8190:8195], tokens[-2:], tokens[::997]):
        assert (whole[part] == noise(1, 2, 3, part)).all()


@given(seeds, st.integers(0, 8), st.integers(0, 40), st.integers(0, 2**31))
def test_a_lanes_number_is_what_noise_makes_a_tokens_gumbel_of(
    seed: int, choice: int, position: int, token: int
) -> None:
    number = uniform(seed, choice, position, token)
    assert 0 < number < 1
    found = noise(seed, choice, position, np.array([token]))[0]
    assert found == pytest.approx(-np.log(-np.log(number)), rel=1e-12)


@pytest.mark.parametrize("vary", ["seed", "choice", "position"])
def test_xtcs_lane_is_uniform_and_like_no_tokens(vary: str) -> None:
    places = [{"seed": 3, "choice": 1, "position": 4} | {vary: number} for number in range(4000)]
    numbers = np.array([uniform(**place, lane=XTC_LANE) for place in places])
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # 9 degrees of freedom, 99.9 %; the places are fixed
    others = np.array([uniform(**place, lane=0) for place in places])
    assert abs(np.corrcoef(numbers, others)[0, 1]) < 0.05
