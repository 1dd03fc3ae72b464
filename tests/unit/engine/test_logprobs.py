"""Log-probabilities are those of the whole softmax, whatever the row holds."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.engine.backend import Logits
from meshnode.engine.logprobs import IMPOSSIBLE, logprobs


def piece(token: int) -> bytes:
    """Bytes of a token."""
    return b"<%d>" % token


def row_of(*values: float) -> Logits:
    """Logits as a backend gives them."""
    return np.array(values, dtype=np.float32)


@settings(deadline=None)
@given(
    st.lists(st.floats(-80, 80, width=32) | st.sampled_from([0.0, 1.5, -math.inf]), min_size=1, max_size=50),
    st.integers(0, 60),
    st.integers(0, 10**6),
)
def test_they_are_what_the_obvious_way_gives(values: list[float], top: int, pick: int) -> None:
    row = row_of(*values, 0.0)
    chosen = pick % row.size
    total = math.fsum(math.exp(float(value)) for value in row)
    exact = [float(value) - math.log(total) if value > -math.inf else IMPOSSIBLE for value in row]
    found = logprobs(row, chosen, top, piece)
    assert (found.token_id, found.token) == (chosen, piece(chosen))
    assert found.logprob == pytest.approx(exact[chosen], abs=1e-9)
    order = sorted(np.flatnonzero(row > -np.inf).tolist(), key=lambda token: (-row[token], token))[:top]
    assert [(token, text) for token, text, _ in found.top] == [(token, piece(token)) for token in order]
    assert [value for _, _, value in found.top] == pytest.approx([exact[token] for token in order], abs=1e-9)


def test_a_whole_vocabulary_sums_to_one() -> None:
    row = (4 * np.random.default_rng(1).standard_normal(151_936)).astype(np.float32)
    row.flags.writeable = False
    found = logprobs(row, 7, 20, piece)
    mass = np.exp(row.astype(np.longdouble) - row.max())
    exact = np.log(mass / mass.sum())
    assert found.logprob == pytest.approx(float(exact[7]), abs=1e-10)
    assert [token for token, _, _ in found.top] == np.argsort(-row, kind="stable")[:20].tolist()
    assert len(logprobs(row, 7, 0, piece).top) == 0


NAN, INF = math.nan, math.inf
STRANGE = [
    (row_of(NAN, 0, 0), 1, -math.log(2)),
    (row_of(NAN, 0, 0), 0, IMPOSSIBLE),
    (row_of(INF, 5, INF), 2, -math.log(2)),
    (row_of(INF, 5, INF), 1, IMPOSSIBLE),
    (row_of(NAN, NAN), 1, IMPOSSIBLE),
    (row_of(-INF, -INF), 0, IMPOSSIBLE),
    (row_of(3e38, -3e38), 1, IMPOSSIBLE),
]


@pytest.mark.parametrize(("row", "chosen", "expected"), STRANGE, ids=range(len(STRANGE)))
def test_strange_rows_give_numbers_that_json_can_say(row: Logits, chosen: int, expected: float) -> None:
    found = logprobs(row, chosen, 3, piece)
    assert found.logprob == pytest.approx(expected)
    assert all(math.isfinite(value) for _, _, value in found.top)
    assert b"null" not in msgspec.json.encode([found.logprob, *(value for _, _, value in found.top)])
