"""How much may be computed: totals that only rise, whoever says them and however often."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.gate import MOST, Gate, Quota
from meshnode.engine.pipe import UNLIMITED


def test_totals_are_raised_and_never_lowered() -> None:
    gate = Gate(10, 5)
    gate.allow(prefill=20)
    gate.allow(decode=6)
    gate.allow(prefill=3, decode=2)
    gate.allow()
    assert (gate.prefill, gate.decode) == (20, 6)


@pytest.mark.parametrize("total", [UNLIMITED, -(2**70)])
def test_less_than_nothing_is_nothing(total: int) -> None:
    gate = Gate(total, total)
    gate.allow(prefill=total, decode=total)
    assert (gate.prefill, gate.decode) == (0, 0), "never to be taken for unlimited"


def test_more_than_can_be_written_is_much() -> None:
    gate = Gate(2**70, 0)
    gate.allow(decode=2**70)
    assert (gate.prefill, gate.decode) == (MOST, MOST)


def test_whoever_is_attached_hears_of_each_rise_and_of_nothing_else() -> None:
    gate, heard = Gate(1, 1), list[tuple[int, int]]()
    gate.allow(prefill=2)
    with gate.attached(lambda: heard.append((gate.prefill, gate.decode))):
        gate.allow(prefill=2, decode=1)
        gate.allow(decode=4)
        gate.allow(prefill=3, decode=5)
    gate.allow(prefill=9)
    assert heard == [(2, 4), (3, 5)]


def test_a_later_attachment_takes_the_earlier_ones_place() -> None:
    gate, heard = Gate(0, 0), list[str]()
    with ExitStack() as later:
        with gate.attached(lambda: heard.append("earlier")):
            later.enter_context(gate.attached(lambda: heard.append("later")))
            gate.allow(prefill=1)
        gate.allow(prefill=2)
    gate.allow(prefill=3)
    assert heard == ["later", "later"], "also once the earlier one has left"


class Engine:
    """Adds up what it is granted."""

    def __init__(self, window: int, gate: Gate | None) -> None:
        self.grants: list[tuple[int, int]] = []
        self.quota = Quota(window, gate, lambda decode, prefill: self.grants.append((decode, prefill)))
        self.submitted = (self.quota.decode, self.quota.prefill)

    @property
    def granted(self) -> tuple[int, int]:
        """Positions of the answer and of the prompt, since it was asked."""
        decode, prefill = self.submitted
        return (decode + sum(grant[0] for grant in self.grants), prefill + sum(grant[1] for grant in self.grants))


def test_without_a_gate_only_the_reader_holds_it_back() -> None:
    engine = Engine(8, None)
    assert engine.submitted == (8, UNLIMITED)
    engine.quota.read(3)
    engine.quota.renew()
    assert engine.grants == [(3, 0)]


def test_the_smaller_of_window_and_gate_holds() -> None:
    gate = Gate(5, 3)
    engine = Engine(8, gate)
    assert engine.submitted == (3, 5)
    gate.allow(prefill=7, decode=20)
    engine.quota.renew()
    assert engine.granted == (8, 7), "the reader's window is full"
    engine.quota.read(9)
    assert engine.granted == (17, 7)
    engine.quota.read(9)
    assert engine.granted == (20, 7), "the gate is reached"
    engine.quota.read(9)
    assert engine.grants[-1] == (3, 0), "and nothing is said when nothing is granted"


def test_each_attempt_begins_with_all_that_was_allowed() -> None:
    gate = Gate(5, 3)
    first = Engine(8, gate)
    gate.allow(prefill=50, decode=30)
    first.quota.renew()
    assert first.granted == (8, 50)
    assert Engine(8, gate).submitted == (8, 50)


totals = st.integers(0, 60)
allowed = st.tuples(st.just("allow"), totals, totals)
events = st.lists(st.one_of(allowed, st.tuples(st.just("read"), st.integers(0, 9), st.just(0))), max_size=30)


@given(st.integers(1, 20), totals, totals, events)
def test_the_total_granted_is_the_least_that_anybody_says(
    window: int, prefill: int, decode: int, events: list[tuple[str, int, int]]
) -> None:
    gate = Gate(prefill, decode)
    engine, read = Engine(window, gate), 0
    with gate.attached(engine.quota.renew):
        for what, first, second in events:
            if what == "read":
                engine.quota.read(first)
                read += first
            else:
                gate.allow(prefill=first, decode=second)
                prefill, decode = max(prefill, first), max(decode, second)
            assert engine.granted == (min(window + read, decode), prefill)
            assert all(grant >= 0 for pair in engine.grants for grant in pair)
