"""Which tokens the next engine step computes: admission, chunking, pre-emption. Pure; the clock is an argument.

Rules, in order of precedence:

* Cells. One cache is shared by all sequences; the tokens known of all sequences with a slot never exceed it. When
  decoding outgrows it, the youngest sequence of the lowest class gives its cells back and is recomputed later.
* Slots. Waiting sequences get them in class order, then in order of arrival; nobody overtakes the head of the queue,
  so that a long prompt is not starved by short ones. One that waits for its reader (no credit) may be overtaken.
* A step. Each decoding sequence gets its token first; prompts share what is left of the budget: half of it goes to
  the first in order, the rest to the shortest, so that a short question never waits for a long prompt's end and a
  long prompt never stands still.
* Credit. A sequence without credit, for its prompt or for its answer, computes nothing. When others wait for its slot
  or cells and it has stood still for ``patience_s``, it gives them back as if pre-empted. So do others' sequences when
  the owner waits. Nobody gets a slot only to recompute what was paid for: there must be something new to compute.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import NamedTuple

from meshnode.domain import ServiceClass
from meshnode.engine.sequence import TokenSequence


class QueueFullError(Exception):
    """As many sequences wait as may."""


class Chunk(NamedTuple):
    """Compute ``length`` pending tokens of a sequence; ``last`` if nothing is pending after them: draw a token."""

    sequence: TokenSequence
    length: int
    last: bool


class Plan(NamedTuple):
    """One step: slots ``freed`` (their cells must be forgotten first), sequences ``admitted``, and what to compute."""

    freed: tuple[int, ...] = ()
    admitted: tuple[TokenSequence, ...] = ()
    chunks: tuple[Chunk, ...] = ()


_GROWTH = 16
"""Cells kept for each running sequence when another is admitted, so that it is not pre-empted right away."""


def _rank(sequence: TokenSequence) -> tuple[int, int, int]:
    """Order of service: class, then arrival (request numbers only grow)."""
    return (sequence.service_class, sequence.number, sequence.choice)


class Scheduler:
    """Slots ``0 .. slots-1`` over ``cells`` KV cells; at most ``queue_limit`` sequences wait.

    Every sequence submitted must fit into ``cells`` alone, with all the tokens it may ever have.
    """

    def __init__(self, *, slots: int, cells: int, queue_limit: int = 1024, patience_s: float = 2.0) -> None:
        self.cells = cells
        self._room = cells
        self._patience_s = patience_s
        self._queue_limit = queue_limit
        self._free = list(range(slots - 1, -1, -1))
        self._waiting: list[TokenSequence] = []
        self._running: dict[int, TokenSequence] = {}

    # --- what there is ------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[TokenSequence, ...]:
        """Sequences without a slot, next one first."""
        return tuple(self._waiting)

    @property
    def running(self) -> tuple[TokenSequence, ...]:
        """Sequences with a slot, in order of admission."""
        return tuple(self._running.values())

    @property
    def used(self) -> int:
        """Cells in use."""
        return sum(sequence.computed for sequence in self._running.values())

    @property
    def runnable(self) -> bool:
        """Whether a plan made now would admit or compute something."""
        return any(sequence.allowance > 0 for sequence in self._running.values()) or self._admissible() is not None

    # --- what others ask of it ----------------------------------------------------------------

    def submit(self, sequence: TokenSequence) -> None:
        """Queue a sequence. Raises QueueFullError, but never for a further answer to a request that is under way."""
        if sequence.choice == 0 and len(self._waiting) >= self._queue_limit + len(self._free):
            raise QueueFullError
        insort(self._waiting, sequence, key=_rank)

    def release(self, sequence: TokenSequence) -> int | None:
        """Drop a sequence, finished or cancelled; gives the slot whose cells must be forgotten, if it had one."""
        if sequence.slot is not None:
            return self._vacate(sequence)
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        return None

    def tighten(self, tokens: int) -> bool:
        """The cache could not take ``tokens`` more, whatever was counted: plan with less until it is empty again.

        False when only one sequence runs, which nothing can help.
        """
        if len(self._running) < 2:
            return False
        self._room = min(self._room, self.used + tokens - 1)
        return True

    def plan(self, budget: Callable[[int], int], now: float) -> Plan:
        """The next step; ``budget(n)`` is how many prompt tokens it may carry beside ``n`` decoding sequences."""
        self._watch_stalls(now)
        freed: list[int] = []
        while self._known() > self._room and len(self._running) > 1:
            freed.append(self._requeue(max(self._running.values(), key=_rank)))
        admitted = self._admit(now, freed)
        ready = [s for s in self._running.values() if s.decoding and s.allowance > 0]
        chunks = [Chunk(sequence, 1, True) for sequence in sorted(ready, key=_rank)]
        return Plan(tuple(freed), tuple(admitted), (*chunks, *self._prefill(budget(len(ready)))))

    # --- how ----------------------------------------------------------------------------------

    def _known(self) -> int:
        """Cells that the sequences with a slot need for all their tokens."""
        return sum(len(sequence.tokens) for sequence in self._running.values())

    def _head(self) -> TokenSequence | None:
        """The next of the queue that could compute anything new."""
        return next((sequence for sequence in self._waiting if sequence.fresh > 0), None)

    def _fits(self, sequence: TokenSequence, beside: list[TokenSequence]) -> bool:
        known = sum(len(other.tokens) + _GROWTH for other in beside)
        return known + len(sequence.tokens) + 1 <= self._room or not beside

    def _admissible(self) -> TokenSequence | None:
        """The next sequence to get a slot, if there are a slot and cells for it."""
        head = self._head() if self._free else None
        return head if head is not None and self._fits(head, list(self._running.values())) else None

    def _admit(self, now: float, freed: list[int]) -> list[TokenSequence]:
        """Give slots while there are any to give; slots taken from others for it are added to ``freed``."""
        admitted = []
        while (sequence := self._admissible() or self._make_room(now, freed)) is not None:
            self._waiting.remove(sequence)
            sequence.slot = self._free.pop()
            self._running[sequence.slot] = sequence
            admitted.append(sequence)
        return admitted

    def _make_room(self, now: float, freed: list[int]) -> TokenSequence | None:
        """Take slots of those that must yield to the head of the queue, if that lets it in."""
        head = self._head()
        if head is None:
            return None
        yielding = [s for s in self._running.values() if self._yields(s, head, now)]
        staying = [s for s in self._running.values() if s not in yielding]
        if not yielding or not self._fits(head, staying):
            return None
        for sequence in sorted(yielding, key=_rank, reverse=True):
            freed.append(self._requeue(sequence))
            if self._admissible() is head:
                break
        return head

    def _yields(self, sequence: TokenSequence, head: TokenSequence, now: float) -> bool:
        """Whether a running sequence gives way: its reader stands still, or it is a stranger's and the owner waits."""
        still = sequence.stalled_at is not None and now - sequence.stalled_at >= self._patience_s
        return still or head.service_class is ServiceClass.OWNER is not sequence.service_class

    def _watch_stalls(self, now: float) -> None:
        for sequence in self._running.values():
            if sequence.allowance > 0:
                sequence.stalled_at = None
            elif sequence.stalled_at is None:
                sequence.stalled_at = now

    def _prefill(self, budget: int) -> list[Chunk]:
        """Share the budget: half to the first in order, then the shortest, then the first again."""
        wanting = [s for s in self._running.values() if not s.decoding and s.allowance > 0]
        if not wanting or budget <= 0:
            return []
        wanting.sort(key=_rank)
        first, *others = wanting
        shares = {first: min(first.allowance, (budget + 1) // 2)}
        left = budget - shares[first]
        for sequence in sorted(others, key=lambda s: (s.service_class, s.pending)):
            shares[sequence] = min(sequence.allowance, left)
            left -= shares[sequence]
        shares[first] += min(first.allowance - shares[first], left)
        return [Chunk(s, length, length == s.pending) for s in wanting if (length := shares[s])]

    def _requeue(self, sequence: TokenSequence) -> int:
        slot = self._vacate(sequence)
        insort(self._waiting, sequence, key=_rank)
        return slot

    def _vacate(self, sequence: TokenSequence) -> int:
        slot = sequence.slot
        assert slot is not None, "only a sequence with a slot can give one back"
        del self._running[slot]
        self._free.append(slot)
        self._room = self._room if self._running else self.cells
        sequence.slot = None
        sequence.stalled_at = None
        sequence.rewind()
        return slot
