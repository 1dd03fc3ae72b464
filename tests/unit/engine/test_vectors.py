"""What a finished vector is, and which batches no backend computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.vectors import EmbeddingShape, Piece, finished_vector
from meshnode.errors import ModelFailed

FLOATS = st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=40)
CUTTABLE = EmbeddingShape(width=4, longest=100, rows=16, sequences=2, whole=False)
WHOLE = EmbeddingShape(width=4, longest=12, rows=16, sequences=2, whole=True)


def read(vector: bytes) -> list[float]:
    return [float(number) for number in np.frombuffer(vector, "<f4")]


@given(FLOATS, st.integers(1, 50))
def test_length_is_one_or_all_are_zero(numbers: list[float], dimensions: int) -> None:
    found = np.array(read(finished_vector(np.array(numbers, dtype=np.float32), dimensions)))
    assert len(found) == min(dimensions, len(numbers))
    length = float(np.linalg.norm(found))
    assert length == pytest.approx(1, abs=1e-5) or not any(numbers[:dimensions])


def test_direction_stays() -> None:
    assert read(finished_vector(np.array([3, 4, 12], dtype=np.float32), None)) == pytest.approx(
        [3 / 13, 4 / 13, 12 / 13]
    )
    assert read(finished_vector(np.array([3, 4, 12], dtype=np.float32), 2)) == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_failed_model(bad: float) -> None:
    with pytest.raises(ModelFailed, match="not finite"):
        finished_vector(np.array([1, bad], dtype=np.float32), None)


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [
        (CUTTABLE, [Piece(0, 0, [1] * 16, 100)]),
        (CUTTABLE, [Piece(1, 84, [1] * 8, 92), Piece(0, 0, [1] * 8, 8)]),
        (WHOLE, [Piece(0, 0, [1] * 12, 12), Piece(1, 0, [1] * 4, 4)]),
    ],
)
def test_batches_that_can_be(shape: EmbeddingShape, pieces: list[Piece]) -> None:
    shape.check(pieces, 10)


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [
        (CUTTABLE, []),
        (CUTTABLE, [Piece(0, 0, [], 0)]),
        (CUTTABLE, [Piece(0, 0, [1] * 17, 17)]),
        (CUTTABLE, [Piece(0, 0, [1], 101)]),
        (CUTTABLE, [Piece(0, 0, [1, 1], 1)]),
        (CUTTABLE, [Piece(0, 0, [1], 1), Piece(0, 0, [1], 1)]),
        (CUTTABLE, [Piece(2, 0, [1], 1)]),
        (CUTTABLE, [Piece(-1, 0, [1], 1)]),
        (CUTTABLE, [Piece(0, 0, [10], 1)]),
        (CUTTABLE, [Piece(0, 0, [-1], 1)]),
        (WHOLE, [Piece(0, 0, [1] * 3, 4)]),
        (WHOLE, [Piece(0, 3, [1], 4)]),
        (WHOLE, [Piece(0, 0, [1] * 13, 13)]),
    ],
)
def test_batches_that_cannot_be(shape: EmbeddingShape, pieces: list[Piece]) -> None:
    with pytest.raises(ValueError):
        shape.check(pieces, 10)
