"""The arrays that llama.cpp reads a batch from."""

from __future__ import annotations

from meshnode.engine.backend import Row
from meshnode.engine.llama.batch import Batch


def test_rows_lie_where_the_library_looks() -> None:
    batch = Batch(8)  # it owns the memory
    filled = batch.fill([Row(3, 7, 0, False), Row(5, 9, 4, True)])
    rows = range(filled.n_tokens)
    assert [int(filled.seq_id[i][0]) for i in rows] == [3, 5]
    assert [list(map(int, column[:2])) for column in (filled.token, filled.pos, filled.logits)] == [
        [7, 9],
        [0, 4],
        [0, 1],
    ]
    assert [filled.n_seq_id[i] for i in rows] == [1, 1]


def test_arrays_are_used_again() -> None:
    batch = Batch(8)
    batch.fill([Row(1, place, place, False) for place in range(8)])
    assert batch.fill([Row(2, 5, 0, True)]).n_tokens == 1
