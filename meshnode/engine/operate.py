"""Does to a backend's cache what the scheduler has decided: the other side of :mod:`meshnode.engine.memory`."""

from __future__ import annotations

from collections.abc import Iterable

from meshnode.engine.backend import Backend
from meshnode.engine.memory import Operation, Recall, Save
from meshnode.engine.prefix import Cut, Share
from meshnode.engine.store import StateStore


def operate(operations: Iterable[Operation], backend: Backend, store: StateStore) -> set[int]:
    """Do them in their order; sequence ids whose state could not be brought back, which are empty now."""
    lost = set()
    for it in operations:
        if isinstance(it, Cut):
            backend.remove(*it)
        elif isinstance(it, Share):
            backend.copy(*it)
        elif isinstance(it, Save):
            store.settle(it.state, backend.save(it.seq))
        elif not _recall(it, backend):
            backend.remove(it.seq)
            lost.add(it.seq)
    return lost


def _recall(it: Recall, backend: Backend) -> bool:
    data = it.state.data
    return data is not None and backend.restore(it.seq, data) and backend.remove(it.seq, it.length)
