"""How many requests are answered at a time, and how many wait. Pure: counters and a queue, no tasks."""

from __future__ import annotations

from bisect import bisect_left
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
        self._waiting: list[Ticket] = []  # in order of arrival, which is that of their numbers

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
        self._waiting.append(ticket)
        self._let_in()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request is over or gave up; the next ones are let in. Idempotent."""
        self._inside.discard(ticket)
        if place := self.position(ticket):
            del self._waiting[place - 1]
        self._let_in()

    def position(self, ticket: Ticket) -> int:
        """0: let in; 1: next; and so on."""
        place = bisect_left(self._waiting, ticket)
        return place + 1 if self._waiting[place : place + 1] == [ticket] else 0

    def _let_in(self) -> None:
        while self._waiting and self.generating < self._max_generating:
            self._inside.add(self._waiting.pop(0))
