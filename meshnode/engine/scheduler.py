"""Which tokens the next engine step computes: admission, chunking, pre-emption. Pure; the clock is an argument.

Rules, in order of precedence:

* Cells. One cache is shared by all sequences; what those with a slot know, shared tokens counted once, never exceeds
  it. What earlier requests left behind goes first; when decoding outgrows the cache all the same, the youngest sequence
  of the lowest class gives way. What it has computed stays behind it until the cells are needed.
* Slots. Waiting sequences get them in class order; within a class the caller who was served least comes first, and its
  requests in order of arrival. Nobody overtakes the head of the queue, so that a long prompt is not starved by short
  ones, but for two who could not begin yet: one that waits for its reader (no credit), and one whose beginning is being
  computed for another request of its caller, which it then shares.
* A step. Each decoding sequence gets its token first; prompts share what is left of the budget: half of it goes to
  the first in order, the rest to the shortest, so that a short question never waits for a long prompt's end and a
  long prompt never stands still.
* Giving way. When a higher class waits for slots or cells, lower ones give theirs back as soon as they have got
  something done with them; to the owner, at once. So does a sequence without credit, for its prompt or for its answer,
  once it has stood still for ``patience_s`` and others wait. Nobody gets a slot only to recompute what was paid for:
  there must be something new to compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from meshnode.domain import ServiceClass
from meshnode.engine.backend import Row
from meshnode.engine.budget import TILE
from meshnode.engine.fairness import TokenCounters
from meshnode.engine.memory import Memory, Operation
from meshnode.engine.sequence import TokenSequence
from meshnode.engine.store import LEAST


class QueueFullError(Exception):
    """As many sequences wait as may."""


class Chunk(NamedTuple):
    """Compute ``length`` pending tokens of a sequence; ``last`` if nothing is pending after them: draw a token."""

    sequence: TokenSequence
    length: int
    last: bool

    def rows(self) -> list[Row]:
        """Its part of the batch; if nothing is pending after it, the last row gives logits."""
        slot, start = self.sequence.slot, self.sequence.computed
        assert slot is not None, "only sequences with a slot are planned"
        tokens = self.sequence.tokens[start : start + self.length]
        rows = [Row(slot, token, place, False) for place, token in enumerate(tokens, start)]
        if self.last:
            rows[-1] = rows[-1]._replace(logits=True)
        return rows


class Plan(NamedTuple):
    """One step: what to do to the cache first, who was ``admitted`` or lost a slot, and what to compute."""

    operations: tuple[Operation, ...] = ()
    admitted: tuple[TokenSequence, ...] = ()
    requeued: tuple[TokenSequence, ...] = ()
    chunks: tuple[Chunk, ...] = ()


_GROWTH = 16
"""Cells kept for each running sequence when another is admitted, so that it is not pre-empted right away."""
_PROGRESS = 32
"""New tokens a sequence computes before it gives way to a higher class that is not the owner's: no slot is taken in
vain, however fast requests of that class follow each other."""


class Scheduler:
    """``slots`` sequences at a time over ``cells`` KV cells; at most ``queue_limit`` sequences wait.

    Every sequence submitted must fit into ``cells`` alone, with all the tokens it may ever have. The model has ``ids``
    sequence ids, at least ``slots``; those beyond hold what ended requests left behind. ``cuttable`` tells whether its
    memory can be cut at any token; ``host_bytes`` of states are kept outside it. ``most_rows`` bounds
    what a step may carry beyond its budget so as to end a prompt.
    """

    def __init__(
        self,
        *,
        slots: int,
        cells: int,
        ids: int = 0,
        cuttable: bool = True,
        host_bytes: int = 0,
        queue_limit: int = 1024,
        most_rows: int = 0,
        patience_s: float = 2.0,
    ) -> None:
        self.cells = cells
        self._most_rows = most_rows
        self._slots = slots
        self._patience_s = patience_s
        self._queue_limit = queue_limit
        self.memory = Memory(cells, max(slots, ids), cuttable=cuttable, budget=host_bytes)
        self._counters = TokenCounters()
        self._waiting: list[TokenSequence] = []
        self._running: dict[int, TokenSequence] = {}

    # --- what there is ------------------------------------------------------------------------

    @property
    def waiting(self) -> tuple[TokenSequence, ...]:
        """Sequences without a slot, next one first."""
        return tuple(sorted(self._waiting, key=self._rank))

    @property
    def running(self) -> tuple[TokenSequence, ...]:
        """Sequences with a slot, in order of admission."""
        return tuple(self._running.values())

    @property
    def used(self) -> int:
        """Cells that the sequences with a slot have filled."""
        return self.memory.used(self._running.values())

    @property
    def idle(self) -> int:
        """Cells that hold only what earlier requests left behind."""
        return self.memory.idle

    @property
    def runnable(self) -> bool:
        """Whether a plan made now would admit or compute something."""
        return any(s.allowance > 0 for s in self._running.values()) or self._admissible(self._head()) is not None

    # --- what others ask of it ----------------------------------------------------------------

    def submit(self, sequence: TokenSequence) -> None:
        """Queue a sequence. Raises QueueFullError, but never for a further answer to a request that is under way."""
        free = self._slots - len(self._running)
        if sequence.choice == 0 and len(self._waiting) >= self._queue_limit + free:
            raise QueueFullError
        self._waiting.append(sequence)
        self._counters.arrive(sequence.caller)

    def release(self, sequence: TokenSequence, *, keep: bool = True) -> tuple[Operation, ...]:
        """Drop a sequence, finished or cancelled; what it computed stays for others to share if ``keep``."""
        if sequence.slot is not None:
            self._vacate(sequence, keep=keep)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        everybody = [*self._running.values(), *self._waiting]
        if not sequence.shared and all(other.owner != sequence.owner for other in everybody):
            self.memory.forget(sequence)
        return self.memory.operations()

    def tighten(self, tokens: int) -> bool:
        """The cache could not take ``tokens`` more, whatever was counted: plan with less until it is empty again.

        False when only one sequence runs and nothing is left behind by others, which nothing can help.
        """
        if len(self._running) < 2 and not self.idle:
            return False
        self.memory.room = min(self.memory.room, self.used + self.idle + tokens - 1)
        return True

    def plan(self, budget: Callable[[int], int], now: float) -> Plan:
        """The next step; ``budget(n)`` is how many prompt tokens it may carry beside ``n`` decoding sequences."""
        self._counters.settle(s.caller for s in (*self._running.values(), *self._waiting))
        self._watch_stalls(now)
        self.memory.publish(self._running.values())
        requeued = self._make_do()
        admitted = self._admit(now, requeued)
        self.memory.tidy()
        ready = [s for s in self._running.values() if s.decoding and s.allowance > 0]
        chunks = [Chunk(sequence, 1, True) for sequence in ready]
        chunks += self._prefill(budget(len(ready)), self._most_rows - len(ready))
        for sequence, length, _ in chunks:
            answer = length if sequence.decoding else 0
            self._counters.charge(sequence.caller, prompt=length - answer, answer=answer)
        return Plan(self.memory.operations(), tuple(admitted), tuple(requeued), tuple(chunks))

    # --- slots --------------------------------------------------------------------------------

    def _make_do(self) -> list[TokenSequence]:
        """See that what the running sequences know fits: give up what is idle, then take slots; who lost one."""
        requeued = []
        while (excess := self.memory.excess(self._running.values())) > 0:
            if self.idle:
                self.memory.free(excess)
            elif len(self._running) > 1:
                requeued.append(self._requeue(max(self._running.values(), key=_age)))
            else:
                break
        return requeued

    def _rank(self, sequence: TokenSequence) -> tuple[int, float, int, int]:
        """Order of service: class, what the caller had, then arrival (request numbers only grow)."""
        return (sequence.service_class, self._counters.of(sequence.caller), sequence.number, sequence.choice)

    def _head(self) -> TokenSequence | None:
        """The next of the queue that could compute anything new now."""
        queue = sorted((s for s in self._waiting if s.fresh > 0), key=self._rank)
        return next((sequence for sequence in queue if not self._follows(sequence)), None)

    def _follows(self, sequence: TokenSequence) -> bool:
        """Whether a running sequence is about to compute what this one could share."""
        return any(
            leader.owner == sequence.owner
            and leader.computed < leader.prompt_length
            and leader.allowance > 0
            and self.memory.shared_soon(sequence, leader, LEAST)
            for leader in self._running.values()
        )

    def _fits(self, sequence: TokenSequence, beside: list[TokenSequence]) -> bool:
        """Whether there are cells for it beside these; alone it always fits."""
        alone = len(beside) == len(self._running)
        return not beside or self.memory.fits(sequence, beside, _GROWTH, alone=alone)

    def _admissible(self, head: TokenSequence | None) -> TokenSequence | None:
        """The head of the queue, if there are a slot and cells for it."""
        if head is None or len(self._running) >= self._slots:
            return None
        return head if self._fits(head, list(self._running.values())) else None

    def _admit(self, now: float, requeued: list[TokenSequence]) -> list[TokenSequence]:
        """Give slots while there are any to give; those they are taken from for it are added to ``requeued``."""
        admitted = []
        while (head := self._head()) is not None:
            sequence = self._admissible(head) or self._make_room(head, now, requeued)
            if sequence is None:
                break
            self._waiting.remove(sequence)
            self.memory.start(sequence, list(self._running.values()))
            assert sequence.slot is not None, "it was given one"
            self._running[sequence.slot] = sequence
            admitted.append(sequence)
        return admitted

    def _make_room(self, head: TokenSequence, now: float, requeued: list[TokenSequence]) -> TokenSequence | None:
        """Take slots of those that must yield to the head of the queue, if that lets it in."""
        yielding = [s for s in self._running.values() if self._yields(s, head, now)]
        staying = [s for s in self._running.values() if s not in yielding]
        if not yielding or not self._fits(head, staying):
            return None
        for sequence in sorted(yielding, key=_age, reverse=True):
            requeued.append(self._requeue(sequence))
            if self._admissible(head) is head:
                break
        return head

    def _yields(self, sequence: TokenSequence, head: TokenSequence, now: float) -> bool:
        """Whether a running sequence gives way: its reader stands still, or a higher class waits."""
        if sequence.stalled_at is not None and now - sequence.stalled_at >= self._patience_s:
            return True
        if head.service_class >= sequence.service_class:
            return False
        return head.service_class is ServiceClass.OWNER or sequence.charged - sequence.began >= _PROGRESS

    def _watch_stalls(self, now: float) -> None:
        for sequence in self._running.values():
            if sequence.allowance > 0:
                sequence.stalled_at = None
            elif sequence.stalled_at is None:
                sequence.stalled_at = now

    def _prefill(self, budget: int, most: int) -> list[Chunk]:
        """Share the budget: half to the first in order, then the shortest, then the first again.

        What would be left of a prompt and fills no tile of rows is computed with the rest, up to ``most`` tokens in
        all: alone it would take longer than a whole tile (see :mod:`meshnode.engine.budget`).
        """
        wanting = [s for s in self._running.values() if not s.decoding and s.allowance > 0]
        if not wanting or budget <= 0:
            return []
        wanting.sort(key=self._rank)
        first, *others = wanting
        shares = {first: min(first.stretch, (budget + 1) // 2)}
        left = budget - shares[first]
        for sequence in sorted(others, key=lambda s: (s.service_class, s.pending)):
            shares[sequence] = min(sequence.stretch, left)
            left -= shares[sequence]
        shares[first] += min(first.stretch - shares[first], left)
        spare = most - sum(shares.values())
        for sequence, share in shares.items():
            rest = sequence.stretch - share
            if share and 0 < rest < TILE and rest <= spare:
                shares[sequence] += rest
                spare -= rest
        return [Chunk(s, length, length == s.pending) for s in wanting if (length := shares[s])]

    def _requeue(self, sequence: TokenSequence) -> TokenSequence:
        self._vacate(sequence, keep=True)
        self._waiting.append(sequence)
        return sequence

    def _vacate(self, sequence: TokenSequence, *, keep: bool) -> None:
        """Take a slot back; what was computed under it stays as idle cells if it may be shared."""
        assert sequence.slot is not None, "only a sequence with a slot can give one back"
        del self._running[sequence.slot]
        self.memory.end(sequence, keep=keep)
        if not self._running:
            self.memory.room = self.cells
        sequence.slot = None
        sequence.stalled_at = None
        sequence.rewind()


def _age(sequence: TokenSequence) -> tuple[int, int, int]:
    """Who gives way first is the greatest: of the lowest class, the youngest."""
    return (sequence.service_class, sequence.number, sequence.choice)
