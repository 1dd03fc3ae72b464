"""How many prompt tokens one engine step may carry. Pure: measured times come in as arguments.

A long prompt is computed in chunks so that the sequences beside it keep talking. Large chunks use the hardware
better, small ones keep the gap between two tokens short. Beside running streams a chunk takes a few times as long as
the streams' own step: the long prompt then comes a fifth later than if everybody stood still for it, and nobody stands
still. The chunk is what fits into that time at the speed measured so far.
"""

from __future__ import annotations

STEPS = 5
"""Steps of the running streams that a prefill chunk beside them may take: prompts get 5/6 of the time."""
BUSY_S = 0.15
"""Most that such a chunk takes on a machine whose steps are shorter; where they are longer, one step."""
QUIET_S = 0.5
"""Time a chunk may take when nobody waits for a next token: a new request waits at most for one chunk."""
TILE = 64
"""Rows of a step are multiples of this while a prompt is computed. llama.cpp's attention on a CPU takes so many rows at
once (``ggml_fa_tile_config::Q``), and one by one where there are fewer: with 3,000 tokens of context 36 rows were
measured to take 2.4 s, and 64 rows 0.6 s."""
SMALLEST = TILE // 2
"""Prompt tokens of a step at least; steps with fewer tell nothing of the speed."""
_WEIGHT = 0.3
"""Of a new measurement in the moving average."""


class StepBudget:
    """Adapts the chunk to the machine; ``ceiling`` (tokens) is never exceeded.

    ``prefill_tps`` is the speed measured at load, 0 if none was: then the first chunks are of full size.
    """

    def __init__(self, ceiling: int, *, prefill_tps: float = 0.0) -> None:
        self._ceiling = ceiling
        self.prefill_tps = prefill_tps
        """Prompt tokens computed in a second; 0 while nothing was measured."""
        self.step_s = 0.0
        """Seconds of a step in which every running stream gets a token and no prompt is computed; 0 as above."""

    def observe(self, decoded: int, prefilled: int, seconds: float) -> None:
        """A step with so many tokens took so long; steps too small to tell anything are ignored."""
        if seconds <= 0:
            return
        if decoded and not prefilled:
            self.step_s = _blend(self.step_s, seconds)
        elif prefilled >= SMALLEST:
            for_prompt = max(seconds / 2, seconds - self.step_s) if decoded else seconds
            self.prefill_tps = _blend(self.prefill_tps, prefilled / for_prompt)

    def tokens(self, *, decoding: int) -> int:
        """Prompt tokens for the next step beside ``decoding`` sequences that each take one of the ceiling's places."""
        room = max(0, self._ceiling - decoding)
        if self.prefill_tps <= 0:
            return room
        fitting = int(self.prefill_tps * (self._beside() if decoding else QUIET_S))
        least = -(-(decoding + SMALLEST) // TILE) * TILE
        return min(room, max(least, fitting - fitting % TILE) - decoding)

    def _beside(self) -> float:
        """Seconds of a chunk beside running streams."""
        if self.step_s <= 0:
            return BUSY_S
        return min(STEPS * self.step_s, max(BUSY_S, self.step_s))


def _blend(average: float, measured: float) -> float:
    return measured if average <= 0 else average + _WEIGHT * (measured - average)
