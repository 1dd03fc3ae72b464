"""When a caller who sees no progress should stop waiting for a model, and when it should come back. Pure.

A stream shows how far the load is, so it may wait; whoever asked for one whole answer sees nothing, and its own timeout
may pass any moment: after a while it is told how far the load is and how long to wait.
"""

from __future__ import annotations

import math

from meshnode.errors import ModelLoading
from meshnode.events import Event, Heartbeat, Loading

SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 120.0
"""OpenAI's clients ignore a longer wait."""
UNKNOWN_RETRY_S = 10.0


def still_on_its_way(loading: Loading, left_s: float) -> ModelLoading:
    """The error for who is to come back. ``left_s``: seconds that the rest should take, infinite if unknown."""
    doing = "fetched" if loading.fetching else "loaded"
    after = UNKNOWN_RETRY_S if left_s == math.inf else min(max(left_s, SHORTEST_RETRY_S), LONGEST_RETRY_S)
    return ModelLoading(
        f"the model is being {doing}, {loading.fraction:.0%}.",
        hint="Ask again when it is there, or ask for a stream, which waits and shows how far it is.",
        retry_after_s=after,
    )


class LoadWatch:
    """Watches the events of one answer until something of it is there. Times in seconds of any one clock."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._began = math.inf
        self._since, self._first = 0.0, 0.0
        self._latest: Loading | None = None

    def see(self, event: Event, now: float) -> None:
        """An event came at ``now``."""
        if isinstance(event, Loading):
            if self._latest is None:
                self._began = now
            if self._latest is None or self._latest.fetching != event.fetching:
                self._since, self._first = now, event.fraction
            self._latest = event
        elif not isinstance(event, Heartbeat):
            self._latest, self._began = None, math.inf

    @property
    def deadline(self) -> float:
        """When to give up, unless something else is seen before; infinite while no model is on its way."""
        return self._began + self._patience_s

    def error(self, now: float) -> ModelLoading:
        """What to tell at the deadline: the rest will take as long as the part that was watched, in proportion."""
        loading = self._latest or Loading(0.0)
        seen = loading.fraction - self._first
        left = (1.0 - loading.fraction) * (now - self._since) / seen if seen > 0 else math.inf
        return still_on_its_way(loading, left)
