"""How many at a time: counters that never let one too many in."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshnode.errors import Overloaded
from meshnode.gateway.admission import Admission, Ticket


class Comings(RuleBasedStateMachine):
    """Requests come and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(max_generating=2, max_queued=3)
        self.tickets: list[Ticket] = []

    @rule()
    def arrive(self) -> None:
        try:
            self.tickets.append(self.admission.arrive())
        except Overloaded:
            assert len(self.tickets) == 5

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        self.tickets.remove(ticket)
        self.admission.leave(ticket)
        self.admission.leave(ticket)

    @invariant()
    def first_come_first_served(self) -> None:
        positions = [self.admission.position(ticket) for ticket in self.tickets]
        waiting = [position for position in positions if position]
        assert positions.count(0) == self.admission.generating == min(2, len(self.tickets))
        assert waiting == list(range(1, self.admission.queued + 1))


Comings.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestComings = Comings.TestCase


def test_without_a_queue_the_one_too_many_is_refused_with_the_numbers() -> None:
    admission = Admission(max_generating=1, max_queued=0)
    first = admission.arrive()
    with pytest.raises(Overloaded, match="answers 1 requests and 0 wait"):
        admission.arrive()
    admission.leave(first)
    assert admission.position(admission.arrive()) == 0
