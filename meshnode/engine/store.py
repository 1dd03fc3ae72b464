"""States of conversations in host memory: saved when their cells are needed, brought back instead of computed. Pure.

The bytes are the backend's; this is the index over them, within a budget. For a memory that cannot be cut (a running
state, a window of the past) a state serves only a prompt that begins with all of its tokens; otherwise any common
beginning serves. States are kept by owner like the prefixes in :mod:`meshnode.engine.prefix`, and never matched across
owners. The lowest class's go first, then the least recently used.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from meshnode.engine.prefix import common

Bytes = NDArray[np.uint8]
LEAST = 32
"""Tokens that a state must spare somebody: below, computing them is as fast as looking for them."""


class State:
    """The memory of a sequence that has computed ``tokens``; ``data`` is there once the backend has saved it."""

    __slots__ = ("data", "owner", "rank", "tokens", "used")

    def __init__(self, owner: Hashable, tokens: list[int], rank: int) -> None:
        self.owner = owner
        self.tokens = tokens
        self.rank = rank
        self.data: Bytes | None = None
        self.used = 0


class StateStore:
    """At most ``budget`` bytes of states. ``cuttable`` says whether a part of one serves."""

    def __init__(self, budget: int, *, cuttable: bool) -> None:
        self.budget = budget
        self.size = 0
        """Bytes in use."""
        self._cuttable = cuttable
        self._states: dict[Hashable, list[State]] = {}
        self._now = 0

    def __len__(self) -> int:
        return sum(map(len, self._states.values()))

    def wants(self, owner: Hashable, tokens: Sequence[int], most: int) -> bool:
        """Whether a state of the first ``most`` tokens would be worth keeping: there is room, and none like it."""
        return self.budget > 0 and most - self.find(owner, tokens, most)[0] >= LEAST

    def find(self, owner: Hashable, tokens: Sequence[int], most: int) -> tuple[int, State | None]:
        """The state that serves most of the first ``most`` tokens, and how many of them."""
        best, found = 0, None
        for state in self._states.get(owner, ()):
            same = common(state.tokens, tokens, most)
            if same > best and (self._cuttable or same == len(state.tokens)):
                best, found = same, state
        return best, found

    def branch(self, owner: Hashable, tokens: Sequence[int], most: int) -> int:
        """Where the first ``most`` tokens leave those of the state that is most like them, usable or not."""
        return max((common(state.tokens, tokens, most) for state in self._states.get(owner, ())), default=0)

    def add(self, owner: Hashable, tokens: Sequence[int], rank: int) -> State:
        """A state that is about to be saved. Where a part of it serves, those of its beginnings go."""
        state = State(owner, list(tokens), rank)
        mine = self._states.setdefault(owner, [])
        if self._cuttable:
            for old in [it for it in mine if common(it.tokens, tokens, len(tokens)) == len(it.tokens)]:
                self._discard(old)
        self._states.setdefault(owner, []).append(state)
        self.touch(state)
        return state

    def touch(self, state: State) -> None:
        """It was used."""
        self._now += 1
        state.used = self._now

    def settle(self, state: State, data: Bytes | None) -> None:
        """The backend saved it (or could not): older ones go until everything fits."""
        if state not in self._states.get(state.owner, ()):
            return  # it was made needless, or its owner forgotten, before it was saved
        if data is None or data.nbytes > self.budget:
            self._discard(state)
            return
        state.data = data
        self.size += data.nbytes
        while self.size > self.budget:
            everything = (it for states in self._states.values() for it in states if it is not state)
            self._discard(max(everything, key=lambda it: (it.rank, -it.used)))

    def forget_owner(self, owner: Hashable) -> None:
        """Give up all states of an owner."""
        for state in list(self._states.get(owner, ())):
            self._discard(state)

    def _discard(self, state: State) -> None:
        mine = self._states.get(state.owner, [])
        if state in mine:
            mine.remove(state)
            self.size -= 0 if state.data is None else state.data.nbytes
        if not mine:
            self._states.pop(state.owner, None)
