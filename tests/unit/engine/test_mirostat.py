"""Mirostat keeps what its formulas say and steers surprise to its target; absurd targets leave a token all the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.filters import Candidates
from meshnode.engine.mirostat import Mirostat, surprise, zipf_width
from meshnode.errors import InvalidField


def zipf(exponent: float, size: int = 5000) -> Logits:
    """Logits of a Zipf distribution."""
    return (-exponent * np.log(np.arange(1, size + 1))).astype(np.float32)


def test_version_1_estimates_zipfs_exponent_and_keeps_the_k_that_follows() -> None:
    s, mu, size = 1.3, 6.0, 5000
    k = ((s - 1) * 2**mu / (1 - size ** (1 - s))) ** (1 / s)
    assert zipf_width(zipf(s)[:100].astype(np.float64), mu, size) == int(k) == 10


@pytest.mark.parametrize("s", [0.0, 1e-9, 1.0, 50.0, 1e9])
@pytest.mark.parametrize("mu", [-1e12, -1.0, 0.0, 10.0, 1e12])
def test_every_width_is_one_of_the_vocabularys(s: float, mu: float) -> None:
    logits = -s * np.log(np.arange(1, 101))
    assert 1 <= zipf_width(logits, mu, 5000) <= 5000


def test_where_k_has_no_bound_all_are_kept() -> None:
    assert zipf_width(np.zeros(100), 60.0, 5000) == 5000


def test_version_2_keeps_what_surprises_at_most_mu_bits() -> None:
    mirostat = Mirostat(Sampling(mirostat=2, mirostat_tau=1.25, temperature=1.0))
    row = np.log(np.array([0.05, 0.5, 0.2, 0.25], dtype=np.float32))
    assert mirostat.narrow(row).tokens.tolist() == [1, 3, 2]
    mirostat.mu = -5.0
    assert mirostat.narrow(row).tokens.tolist() == [1]


def test_a_token_that_surprised_more_than_its_target_lowers_mu() -> None:
    mirostat = Mirostat(Sampling(mirostat=2, mirostat_tau=3.0, mirostat_eta=0.5))
    assert mirostat.mu == 6.0
    mirostat.observe(5.0)
    assert mirostat.mu == 5.0


def test_surprise_is_in_bits_among_what_was_left() -> None:
    assert surprise(Candidates(np.array([7, 3]), np.log([0.5, 0.5])), 3) == pytest.approx(1.0)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [2.0, 4.0])
def test_the_mean_surprise_nears_the_target(version: int, tau: float) -> None:
    mirostat = Mirostat(Sampling(mirostat=version, mirostat_tau=tau, temperature=1.0))
    chance, found = np.random.default_rng(3), []
    for _ in range(800):
        left = mirostat.narrow(zipf(1.1))
        mass = np.exp(left.logits)
        found.append(surprise(left, int(chance.choice(left.tokens, p=mass / mass.sum()))))
        mirostat.observe(found[-1])
    assert np.mean(found[200:]) == pytest.approx(tau, abs=0.2)


@pytest.mark.parametrize("name", ["mirostat_tau", "mirostat_eta"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_target_that_is_no_number_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidField, match=name) as caught:
        Mirostat(Sampling(mirostat=1, **{name: value}))  # type: ignore[arg-type]
    assert caught.value.param == name


def test_there_is_no_third_version() -> None:
    with pytest.raises(InvalidField, match="mirostat is 3; allowed"):
        Mirostat(Sampling(mirostat=3))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [-1e300, 0.0, 1e9, 1e300])
@pytest.mark.parametrize("eta", [-1e300, 0.0, 1e300])
def test_absurd_targets_leave_a_token(version: int, tau: float, eta: float) -> None:
    mirostat = Mirostat(Sampling(mirostat=version, mirostat_tau=tau, mirostat_eta=eta))
    for bits in (0.0, 3.0, 1e300):
        assert mirostat.narrow(zipf(1.0, 50)).tokens.size >= 1
        mirostat.observe(bits)
    assert math.isfinite(mirostat.mu)
