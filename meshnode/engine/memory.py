"""The cells of one model: who has which, what is left behind, what moves to host memory and back. Pure.

Where a memory can be cut, what was computed lies in a tree and is shared cell by cell (:mod:`meshnode.engine.prefix`);
idle cells slow everybody's attention down a little, so beyond a share of the cache they move to host memory. Where it
cannot (a running state, a window), states are saved as a whole where somebody may begin again: at the end of a prompt
and of an answer, and where two prompts part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshnode.engine.prefix import Cut, PrefixCache, Share, common
from meshnode.engine.sequence import TokenSequence
from meshnode.engine.store import LEAST, State, StateStore


class Save(NamedTuple):
    """Save the state of a sequence id."""

    seq: int
    state: State


class Recall(NamedTuple):
    """Give a sequence id, which is empty, the first ``length`` tokens of a state."""

    seq: int
    state: State
    length: int


Operation = Cut | Share | Save | Recall


class Found(NamedTuple):
    """What of a sequence need not be computed: ``length`` tokens, of which ``idle`` lie in cells nobody runs on."""

    length: int = 0
    idle: int = 0
    state: State | None = None


_BLOCK = 64
"""Cells freed at a time, so that decoding does not free some at each step."""
_IDLE = 8
"""One of so many cells may be idle while states can move to host memory. Measured with SmolLM2 on one thread: decoding
slows by 3 % for each 1,000 idle cells, saving and bringing back 1,000 take 4 ms each, computing them takes seconds."""


class Memory:
    """``cells`` of a model with ``ids`` sequence ids, and ``budget`` bytes of host memory for states."""

    def __init__(self, cells: int, ids: int, *, cuttable: bool, budget: int) -> None:
        self.cells = cells
        self.room = cells
        """Cells that may be planned with."""
        self.store = StateStore(budget, cuttable=cuttable)
        self._cuttable = cuttable
        self._cache = PrefixCache(ids)
        self._operations: list[Operation] = []

    # --- what there is ------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Cells of what ended requests left behind."""
        return self._cache.idle

    @property
    def sharing(self) -> bool:
        """Whether anything computed for one request can serve another."""
        return self._cuttable or self.store.budget > 0

    def used(self, running: Iterable[TokenSequence]) -> int:
        """Cells that these, all that run, have filled."""
        return self._cache.pinned + sum(s.computed - self._depth(s) for s in running)

    def excess(self, running: Iterable[TokenSequence]) -> int:
        """Cells too many, if these, all that run, compute what they know; below 0 if there is room."""
        return self._cache.cells + self._private(running) - self.room

    def find(self, sequence: TokenSequence) -> Found:
        """What of a sequence is there; its newest token must be computed in any case."""
        most = len(sequence.tokens) - 1
        length, state = self.store.find(sequence.owner, sequence.tokens, most)
        match = self._cache.match(sequence.owner, sequence.tokens, most)
        if state is not None and length - match.length >= LEAST:
            return Found(length, 0, state)
        return Found(match.length, match.idle)

    def fits(self, sequence: TokenSequence, beside: list[TokenSequence], growth: int, *, alone: bool) -> bool:
        """Whether there are cells for a sequence and for these, if all that is idle goes.

        ``growth`` is kept free for each of these; ``alone`` if nobody else runs.
        """
        found = self.find(sequence)
        if found.state is not None:
            found = Found()
        if alone:
            pinned = self._cache.pinned + found.idle
        else:
            pinned = self._cache.pinned_by(s.slot for s in beside if s.slot is not None) + found.length
        needed = self._private(beside) + growth * len(beside) + len(sequence.tokens) - found.length + 1
        return pinned + needed <= self.room

    def shared_soon(self, sequence: TokenSequence, leader: TokenSequence, least: int) -> bool:
        """Whether a running sequence is about to compute ``least`` tokens or more that this one will find then."""
        same = common(leader.tokens, sequence.tokens, min(len(sequence.tokens) - 1, leader.prompt_length))
        if not (self.sharing and leader.computed < same):
            return False
        done = leader.computed if self._cuttable else 0
        soon = same - max(done, self.find(sequence).length) >= least
        if soon and not self._cuttable:
            leader.marks.add(same)
        return soon

    # --- what happens -------------------------------------------------------------------------

    def start(self, sequence: TokenSequence, running: list[TokenSequence]) -> None:
        """Give a sequence an id, and what there is of it; idle cells go if it needs them beside those ``running``."""
        found = self.find(sequence)
        most = len(sequence.tokens) - 1 if self._cuttable and found.state is None else 0
        rank = sequence.service_class
        sequence.slot, length, operations = self._cache.begin(sequence.owner, sequence.tokens, most, rank)
        self._operations += operations
        if found.state is not None:
            length = found.length
            self.store.touch(found.state)
        if not self._cuttable and self.store.budget > 0:
            branch = self.store.branch(sequence.owner, sequence.tokens, len(sequence.tokens) - 1)
            sequence.marks = {sequence.prompt_length, *((branch,) if branch - length >= LEAST else ())}
        sequence.reuse(length)
        beyond = 0 if found.state is None else len(found.state.tokens) - length  # it comes whole, and is cut then
        self.free(self.excess([*running, sequence]) + beyond)
        if found.state is not None:
            self._operations.append(Recall(sequence.slot, found.state, length))

    def publish(self, running: Iterable[TokenSequence]) -> None:
        """Let others share what was computed of prompts."""
        for sequence in running:
            assert sequence.slot is not None, "only a sequence with a slot has cells"
            upto = min(sequence.computed, sequence.prompt_length)
            if self._cuttable and upto > self._depth(sequence):
                self._operations += self._cache.extend(sequence.slot, sequence.tokens, upto)
            elif sequence.computed in sequence.marks:
                sequence.marks.discard(sequence.computed)
                self._save(sequence)

    def end(self, sequence: TokenSequence, *, keep: bool) -> None:
        """A sequence gives its id back; what it computed stays if ``keep``."""
        slot = sequence.slot
        assert slot is not None, "only a sequence with a slot can give one back"
        if keep and self._cuttable:
            self._operations += self._cache.extend(slot, sequence.tokens, sequence.computed)
            self._operations += self._cache.retain(slot)
            return
        if keep:
            self._save(sequence)
        self._operations += self._cache.drop(slot)

    def free(self, cells: int) -> None:
        """Free at least so many idle cells, or all there are; what is worth it moves to host memory."""
        goal = self._cache.cells - cells
        while self._cache.cells > goal and (seq := self._cache.oldest()) is not None:
            owner, tokens, rank = self._cache.tokens(seq)
            tail = self._cache.tail(seq)
            if tail >= LEAST and self.store.wants(owner, tokens, len(tokens)):
                self._operations.append(Save(seq, self.store.add(owner, tokens, rank)))
                self._operations += self._cache.trim(seq, tail)
            else:
                self._operations += self._cache.trim(seq, max(_BLOCK, self._cache.cells - goal))

    def tidy(self) -> None:
        """Move what is idle beyond its share to host memory, if that has room, one state at a time."""
        if self.store.budget > 0 and self._cache.idle > self.cells // _IDLE:
            self.free(1)

    def forget(self, sequence: TokenSequence) -> None:
        """Nothing of this sequence's owner may stay."""
        self._operations += self._cache.forget_owner(sequence.owner)
        self.store.forget_owner(sequence.owner)

    def operations(self) -> tuple[Operation, ...]:
        """What must be done to the backend's cache, in this order and before the next batch; told once."""
        told, self._operations = tuple(self._operations), []
        return told

    # --- how ----------------------------------------------------------------------------------

    def _depth(self, sequence: TokenSequence) -> int:
        """Tokens of a running sequence that others may share."""
        assert sequence.slot is not None, "only a sequence with a slot has cells"
        return self._cache.depth(sequence.slot)

    def _private(self, sequences: Iterable[TokenSequence]) -> int:
        """Cells these need for all their tokens, without those others may share."""
        return sum(len(s.tokens) - self._depth(s) for s in sequences)

    def _save(self, sequence: TokenSequence) -> None:
        slot, done = sequence.slot, sequence.computed
        assert slot is not None, "only a sequence with a slot has a state"
        if self.store.wants(sequence.owner, sequence.tokens, done):
            state = self.store.add(sequence.owner, sequence.tokens[:done], sequence.service_class)
            self._operations.append(Save(slot, state))
