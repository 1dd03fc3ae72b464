"""Measuring a fresh model: right figures, bounded time, nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meshnode.engine.backend import Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.fake_embedding import FakeEmbedding
from meshnode.engine.measure import measure, measure_embedding
from meshnode.engine.vectors import Piece, Vector


class Machine:
    """A backend's clock: each row takes a while, each batch a little more."""

    def __init__(self, per_row: float, per_batch: float) -> None:
        self.now = 0.0
        self._per_row, self._per_batch = per_row, per_batch

    def __call__(self) -> float:
        return self.now

    def work(self, rows: Sequence[Row]) -> None:
        """Let the time pass that a batch takes."""
        self.now += self._per_batch + self._per_row * len(rows)


def test_speeds_are_those_of_the_machine() -> None:
    machine = Machine(per_row=0.001, per_batch=0.009)
    speed = measure(FakeBackend(before_decode=machine.work), machine)
    assert speed.decode_tps == pytest.approx(100)
    assert speed.prefill_tps == pytest.approx(40 / 0.049), "as many tokens as half of the time limit allows"
    assert machine.now < 0.9


def test_fast_machine_gets_the_whole_prompt() -> None:
    machine = Machine(per_row=0.0001, per_batch=0.0009)
    assert measure(FakeBackend(before_decode=machine.work), machine).prefill_tps == pytest.approx(128 / 0.0137)


def test_very_slow_machine_is_not_kept_longer_than_it_needs() -> None:
    machine = Machine(per_row=5.0, per_batch=0.0)
    speed = measure(FakeBackend(before_decode=machine.work), machine)
    assert speed.decode_tps == pytest.approx(0.2)
    assert speed.prefill_tps == 0
    assert machine.now == 10


def test_nothing_stays_in_the_cache() -> None:
    backend = FakeBackend(n_ctx=32)
    machine = Machine(0.001, 0.0)
    measure(backend, machine)
    assert backend.cells_used == 0


def test_a_clock_that_stands_still_gives_no_speed() -> None:
    assert measure(FakeBackend(), lambda: 0.0) == (0.0, 0.0)


def test_a_model_that_only_embeds_is_measured_by_an_input() -> None:
    machine, fake = Machine(per_row=0.001, per_batch=0.0), FakeEmbedding(10, 64)

    class Slow(FakeEmbedding):
        def embed(self, pieces: Sequence[Piece]) -> list[Vector]:
            machine.now += 0.001 * sum(len(piece.tokens) for piece in pieces)
            return fake.embed(pieces)

    assert measure_embedding(Slow(10, 64), machine) == pytest.approx((0.0, 1000.0))
    assert [len(piece.tokens) for (piece,) in fake.batches] == [64, 64]
