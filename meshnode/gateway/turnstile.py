"""The trio side of admission: wait for one's turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from meshnode.gateway.admission import Admission, Ticket


class Turn:
    """One request's place. Made by :meth:`Turnstile.turn`."""

    def __init__(self, turnstile: Turnstile, ticket: Ticket) -> None:
        self._turnstile = turnstile
        self._ticket = ticket

    @property
    def position(self) -> int:
        """0: it is this request's turn; 1: next; and so on."""
        return self._turnstile.admission.position(self._ticket)

    @property
    def changed(self) -> trio.Event:
        """Set when the position may no longer be what it was; take it before the position is acted on."""
        return self._turnstile.changed


class Turnstile:
    """Lets requests through as their turn comes."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.changed = trio.Event()
        """Set, and replaced, whenever somebody leaves."""

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """A place from arrival to the end of the block. Raises Overloaded when there is none."""
        ticket = self.admission.arrive()
        try:
            yield Turn(self, ticket)
        finally:
            self.admission.leave(ticket)
            self.changed.set()
            self.changed = trio.Event()
