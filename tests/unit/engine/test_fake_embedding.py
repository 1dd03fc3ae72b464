"""The fake's own: it remembers its batches, and wants pieces in their order. The rest is the contract suite's."""

from __future__ import annotations

import pytest

from meshnode.engine.fake_embedding import FakeEmbedding
from meshnode.engine.vectors import Piece


def test_batches_are_kept_for_tests_to_look_at() -> None:
    fake = FakeEmbedding(10, 100)
    batch = [Piece(0, 0, [1, 2], 2), Piece(1, 0, [3], 5)]
    fake.embed(batch)
    assert fake.batches == [tuple(batch)]


def test_a_piece_out_of_order_is_a_defect_of_the_caller() -> None:
    fake = FakeEmbedding(10, 100)
    fake.embed([Piece(0, 0, [1, 2], 5)])
    with pytest.raises(ValueError, match="does not continue sequence 0"):
        fake.embed([Piece(0, 3, [1], 5)])


def test_an_encoder_has_room_for_its_longest_input() -> None:
    assert FakeEmbedding(10, 900, whole=True).shape.rows == 900
    assert FakeEmbedding(10, 90, whole=True).shape.rows == 512
