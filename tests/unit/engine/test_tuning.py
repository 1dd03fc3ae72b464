"""Which number of threads is chosen on machines of several tempers, and what happens when one grows busy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from meshnode.engine.backend import Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.threads import Cores, Expected
from meshnode.engine.tuning import Choice, Pacer, Trial, chosen, tune

IDLE = Cores(8, 8, None, 0.0)
BUSY = Cores(8, 8, None, 8.0)


class Machine:
    """A clock and a backend: a row takes ``cost(threads)`` seconds."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self.now = 0.0
        self._cost = cost
        self.backend = FakeBackend(before_decode=self._work)

    def __call__(self) -> float:
        return self.now

    def _work(self, rows: Sequence[Row]) -> None:
        decode, prefill = self.backend.threads
        self.now += len(rows) * self._cost(decode if len(rows) == 1 else prefill)

    def tune(self, cores: Cores = IDLE, *, prefill: int = 0) -> Choice:
        """What is chosen."""
        return tune(self.backend, self, cores, prefill=prefill)


def test_the_fastest_is_taken_and_the_reason_has_the_figures() -> None:
    machine = Machine(lambda threads: 0.01 / threads)
    choice = machine.tune(BUSY)
    assert (choice.decode, choice.prefill) == (7, 7)
    assert machine.backend.threads == (7, 7)
    assert "8 cores, load 8.0" in choice.reason
    assert "700 with 7" in choice.reason


def test_where_threads_fight_for_cores_fewer_are_taken() -> None:
    assert Machine(lambda threads: 0.001 if threads <= 4 else 0.02).tune(BUSY).decode == 4


def test_all_cores_must_be_much_faster_to_be_worth_it() -> None:
    assert Machine(lambda threads: 0.01 / threads).tune(IDLE).decode == 7
    assert tune(two := FakeBackend(before_decode=lambda _: None), lambda: 0.0, Cores(2, 2, None, 5.0)).decode == 1
    assert two.threads == (1, 1)
    assert Machine(lambda threads: 0.01 / threads).tune(Cores(2, 2, None, 0.0)).decode == 2


def test_decoding_and_reading_prompts_are_chosen_apart() -> None:
    trials = [Trial(7, 0.010, 0.001), Trial(4, 0.008, 0.002)]
    assert chosen(trials, BUSY)[:2] == (4, 7)


def test_of_the_nearly_equal_the_fewest_are_taken() -> None:
    assert chosen([Trial(7, 0.0099), Trial(6, 0.0100), Trial(4, 0.0101)], BUSY).decode == 4


@pytest.mark.parametrize("cost", [0.0001, 0.01, 0.1, 0.5, 5.0])
def test_trying_takes_less_than_a_second_or_two_steps(cost: float) -> None:
    machine = Machine(lambda threads: cost)
    machine.tune()
    assert machine.now <= max(1.0, 2 * cost) + 1e-9


def test_a_slow_model_gets_the_proposed_number_and_says_so() -> None:
    choice = Machine(lambda threads: 2.0).tune()
    assert choice.decode == 7
    assert "too slow to try" in choice.reason


def test_one_core_leaves_nothing_to_try() -> None:
    machine = Machine(lambda threads: 0.01)
    choice = machine.tune(Cores(1, 1))
    assert (choice.decode, choice.prefill, machine.now) == (1, 1, 0.0)
    assert "no other" in choice.reason


def test_what_the_owner_set_for_prompts_is_not_touched() -> None:
    machine = Machine(lambda threads: 0.01 / threads)
    assert machine.tune(BUSY, prefill=3)[:2] == (7, 3)
    assert machine.backend.threads == (7, 3)


def test_nothing_stays_in_the_cache() -> None:
    machine = Machine(lambda threads: 0.001)
    machine.tune()
    assert machine.backend.cells_used == 0


def test_a_busy_box_computes_with_fewer_threads_and_with_all_again_later() -> None:
    now = [0.0]
    backend = FakeBackend()
    pacer = Pacer(backend, lambda: now[0], Expected(0.01, 0.001), decode=4, prefill=6)

    def run(seconds: float, cost: Callable[[int], float]) -> None:
        end = now[0] + seconds
        while now[0] < end:
            took = cost(pacer.threads)
            now[0] += max(took, 0.05)
            pacer.observe(1, took)

    run(20, lambda threads: 0.01)
    assert backend.threads == (1, 1), "nothing was set"
    run(40, lambda threads: 0.2 if threads > 1 else 0.03)
    assert backend.threads == (1, 1)
    run(600, lambda threads: 0.04 / threads)
    assert backend.threads == (4, 6)
