"""How many requests are answered at a time, and how many wait. Pure: counters and a queue, no tasks."""

from __future__ import annotations

from collections import OrderedDict
from typing import NewType

from meshnode.errors import Overloaded

Ticket = NewType("Ticket", int)
"""One request from arrival to end."""


class Admission:
    """First come, first served: at most ``max_generating`` are let in, at most ``max_queued`` wait."""

    def __init__(self, *, max_generating: int, max_queued: int) -> None:
        self._max_generating = max_generating
        self._max_queued = max_queued
        self._next = 0
        self._inside: set[Ticket] = set()
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()

    @property
    def generating(self) -> int:
        """Requests that were let in and have not left."""
        return len(self._inside)

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def arrive(self) -> Ticket:
        """Take a ticket; it is let in at once where there is room. Raises Overloaded when the queue is full."""
        if self.generating >= self._max_generating and self.queued >= self._max_queued:
            raise Overloaded(
                f"this node answers {self.generating} requests and {self.queued} wait; that is all it takes.",
                hint="Try again shortly.",
            )
        ticket = Ticket(self._next)
        self._next += 1
        self._waiting[ticket] = None
        self._let_in()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request is over or gave up; the next ones are let in. Idempotent."""
        self._inside.discard(ticket)
        self._waiting.pop(ticket, None)
        self._let_in()

    def position(self, ticket: Ticket) -> int:
        """0: let in; 1: next; and so on."""
        if ticket not in self._waiting:
            return 0
        return next(place for place, waiting in enumerate(self._waiting, start=1) if waiting == ticket)

    def _let_in(self) -> None:
        while self._waiting and self.generating < self._max_generating:
            ticket, _ = self._waiting.popitem(last=False)
            self._inside.add(ticket)
