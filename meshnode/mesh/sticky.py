"""Where a session's last answer came from, so that the next goes where its prefix is still in a cache. Pure.

A hint, never a gate: who is much slower than the best, or cannot answer now, is not waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from meshnode.domain import CallerId, ModelId
from meshnode.mesh.answer import Route
from meshnode.mesh.route import Candidate

MOST: Final = 4096
"""Sessions remembered; the one not used for longest is forgotten first."""
WARM_S: Final = 3600.0
"""How long after its last answer a session's prefix may still be in a cache."""
MUCH_SLOWER: Final = 2.0
"""How many times what the best takes a place may take that a session sticks to."""


class Place(NamedTuple):
    """Who answered last, and with which model."""

    model: ModelId
    node: str


class Sessions:
    """Places by session, each caller's apart. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: OrderedDict[tuple[CallerId, str], tuple[Place, float]] = OrderedDict()

    def place(self, caller: CallerId, session: str | None) -> Place | None:
        """Where the session is, if it is one and that is not too long ago."""
        place, at = self._places.get((caller, session or ""), (None, 0.0))
        return place if place is not None and self._clock() <= at + WARM_S else None

    def answered(self, caller: CallerId, session: str | None, route: Route) -> None:
        """An answer of the session is whole."""
        if session:
            self._places[caller, session] = (Place(route.model, route.node), self._clock())
            self._places.move_to_end((caller, session))
            if len(self._places) > MOST:
                self._places.popitem(last=False)


def kept(candidates: Sequence[Candidate], place: Place | None) -> tuple[Candidate, ...]:
    """The candidates with the session's first, unless the best is much faster."""
    best = min((one.expected_ms for one in candidates), default=0.0)
    for at, one in enumerate(candidates):
        here = place is not None and (one.node, one.model) == (place.node, place.model)
        if here and at and one.expected_ms <= MUCH_SLOWER * best:
            held = msgspec.structs.replace(one, reason=f"{one.reason}, where the session is")
            return (held, *candidates[:at], *candidates[at + 1 :])
    return tuple(candidates)
