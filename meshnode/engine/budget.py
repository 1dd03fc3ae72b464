"""How many prompt tokens one engine step may carry. Pure: measured times come in as arguments.

A long prompt is computed in chunks so that the sequences beside it keep talking. Large chunks use the hardware
better, small ones keep the gap between two tokens short. The chunk is what fits into a fixed share of a second at the
prefill speed measured so far; a fast device therefore never notices the bound.
"""

from __future__ import annotations

BUSY_S = 0.15
"""Time a prefill chunk may take while other sequences wait for their next token."""
QUIET_S = 0.5
"""Time a chunk may take otherwise: a new request waits at most for one chunk."""
SMALLEST = 32
"""Chunks are multiples of this: smaller ones cost more in overhead than they save in waiting."""
_WEIGHT = 0.3
"""Of a new measurement in the moving average."""


class StepBudget:
    """Adapts the chunk to the machine; ``ceiling`` (tokens) is never exceeded.

    ``prefill_tps`` is the speed measured at load, 0 if none was: then the first chunks are of full size.
    """

    def __init__(self, ceiling: int, *, prefill_tps: float = 0.0) -> None:
        self._ceiling = ceiling
        self._tps = prefill_tps

    def observe(self, prefilled: int, seconds: float) -> None:
        """A step with ``prefilled`` prompt tokens took so long; steps too small to tell anything are ignored."""
        if prefilled < SMALLEST or seconds <= 0:
            return
        measured = prefilled / seconds
        self._tps = measured if self._tps <= 0 else self._tps + _WEIGHT * (measured - self._tps)

    def tokens(self, *, decoding: int) -> int:
        """Prompt tokens for the next step beside ``decoding`` sequences that each take one of the ceiling's places."""
        room = max(0, self._ceiling - decoding)
        if self._tps <= 0:
            return room
        fitting = int(self._tps * (BUSY_S if decoding else QUIET_S))
        return min(room, max(SMALLEST, fitting - fitting % SMALLEST))
