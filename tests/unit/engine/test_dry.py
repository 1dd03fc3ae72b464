"""DRY penalises what would carry a repetition on, by its length; kept up from token to token it is what it is anew."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import Sampling
from meshnode.engine.breakers import NO_BREAKERS, Breakers, Tails
from meshnode.engine.dry import Dry, acts

ON = Sampling(dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=2)
N_VOCAB = 8


def breakers_of(heads: Mapping[int, Tails]) -> Breakers:
    """Breakers from their heads."""
    alone = np.array(sorted(token for token, tails in heads.items() if () in tails), dtype=np.int64)
    longest = max((len(tail) for tails in heads.values() for tail in tails), default=0)
    return Breakers(alone, ({token: tuple(t for t in tails if t) for token, tails in heads.items()},), longest)


def limit_of(history: Sequence[int], heads: Mapping[int, Tails]) -> int:
    """How many tokens of the end come after the nearest breaker's head and its longest tail."""
    for head in range(len(history) - 1, -1, -1):
        tails = [len(t) for t in heads.get(history[head], ()) if tuple(history[head + 1 : head + 1 + len(t)]) == t]
        if tails:
            return len(history) - 1 - head - max(tails)
    return len(history)


def penalties(how: Sampling, history: list[int], heads: Mapping[int, Tails]) -> dict[int, float]:
    """The obvious way: compare the end with the end of every beginning."""
    window = history if how.dry_penalty_last_n < 0 else history[max(0, len(history) - how.dry_penalty_last_n) :]
    limit, longest = limit_of(window, heads), dict[int, int]()
    if len(window) <= how.dry_allowed_length:
        return {}
    for place in range(len(window) - 1):
        length = 0
        while length <= place and window[place - length] == window[len(window) - 1 - length]:
            length += 1
        follower = window[place + 1]
        if min(length, limit) >= how.dry_allowed_length and () not in heads.get(follower, ()):
            longest[follower] = max(longest.get(follower, 0), min(length, limit))
    return {
        token: how.dry_multiplier * how.dry_base ** (length - how.dry_allowed_length)
        for token, length in longest.items()
    }


def taken(how: Sampling, history: list[int], heads: Mapping[int, Tails], *, begun: int) -> dict[int, float]:
    """What DRY takes from each token."""
    dry = Dry(how, breakers_of(heads), history[:begun])
    for token in history[begun:]:
        dry.accept(token)
    row = np.zeros(N_VOCAB, dtype=np.float32)
    dry.penalise(row)
    return {token: -float(row[token]) for token in np.flatnonzero(row).tolist()}


def test_the_penalty_grows_with_the_length() -> None:
    history = [0, 1, 2, 3, 4, 5, 1, 2, 3]
    assert taken(ON, history, {}, begun=len(history)) == {4: 2.0}
    assert taken(ON, history[:-1], {}, begun=0) == {3: 1.0}
    assert taken(ON, history[:-2], {}, begun=0) == {}


def test_a_breaker_ends_the_comparison_and_is_never_penalised() -> None:
    history = [1, 2, 3, 4, 0, 1, 2, 3]
    assert taken(ON, history, {2: ((),)}, begun=8) == {}
    assert taken(ON, history, {1: ((),)}, begun=8) == {4: 1.0}
    assert taken(ON, history, {1: ((2,), (7,))}, begun=8) == {}
    assert taken(ON, history, {4: ((),)}, begun=8) == {}
    assert taken(ON, history, {4: ((6, 6),)}, begun=8) == {4: 2.0}


tails = st.lists(st.integers(0, 3), max_size=3).map(tuple)
breakers = st.dictionaries(st.integers(0, 3), st.lists(tails, min_size=1, max_size=2).map(tuple), max_size=2)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=60),
    breakers,
    st.integers(0, 60),
    st.sampled_from([-1, 1, 2, 5, 20, 100]),
    st.integers(0, 4),
)
def test_kept_from_token_to_token_it_is_what_the_obvious_way_gives(
    history: list[int], heads: Mapping[int, Tails], begun: int, last_n: int, allowed: int
) -> None:
    how = Sampling(dry_multiplier=0.5, dry_base=1.25, dry_allowed_length=allowed, dry_penalty_last_n=last_n)
    assert taken(how, history, heads, begun=begun) == pytest.approx(penalties(how, history, heads), rel=1e-6)


@pytest.mark.parametrize("base", [1.0, 1.0000001, 1.75, 1e9, 1e300, np.inf])
@pytest.mark.parametrize("multiplier", [1e-300, 1.0, -1e300, np.inf])
def test_no_repetition_makes_a_logit_anything_but_a_number(base: float, multiplier: float) -> None:
    how = Sampling(dry_multiplier=multiplier, dry_base=base, dry_allowed_length=-3)
    dry, row = Dry(how, NO_BREAKERS, [3] * 5000), np.ones(N_VOCAB, dtype=np.float32)
    dry.penalise(row)
    assert np.isfinite(row).all()


def test_when_it_acts() -> None:
    assert acts(ON)
    assert not acts(Sampling())
    assert not acts(Sampling(dry_multiplier=1.0, dry_base=0.9))
    assert not acts(Sampling(dry_multiplier=1.0, dry_penalty_last_n=0))


def test_tokens_the_row_lacks_are_left_out() -> None:
    dry, row = Dry(ON, NO_BREAKERS, [1, 2, 99, 1, 2]), np.zeros(N_VOCAB, dtype=np.float32)
    dry.penalise(row)
    assert not row.any()


def test_a_long_history_of_one_token_stays_cheap() -> None:
    dry, row = Dry(ON, NO_BREAKERS, [3] * 30_000), np.zeros(N_VOCAB, dtype=np.float32)
    began = time.process_time()
    for _ in range(20):
        dry.accept(3)
        dry.penalise(row)
    assert time.process_time() - began < 2  # comparing it with itself anew, token by token, takes minutes
