"""How long those who wait for a slot will wait, from what is measured. Pure, and a guess: who knows how long an answer
gets? It is told as one (``Queued.estimate_s``)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

_FIRST_GUESS = 200.0
"""Tokens of an answer, before any has ended."""
_WEIGHT = 0.1
"""Of a new answer's length in the moving average."""


class Left(NamedTuple):
    """What is left to compute of a request: tokens of its prompt, and of its answer."""

    prompt: int
    answer: float


class AnswerLength:
    """The usual length of an answer, in tokens."""

    def __init__(self) -> None:
        self._mean = _FIRST_GUESS

    def observe(self, tokens: int) -> None:
        """An answer ended after so many."""
        self._mean += _WEIGHT * (tokens - self._mean)

    def left(self, said: int, most: int | None) -> float:
        """Tokens still to come after ``said`` of them where at most ``most`` may: the longer it is, the more."""
        guess = max(self._mean - said, said / 2)
        return guess if most is None else max(0.0, min(guess, most - said))


def waits(
    running: Sequence[Left], queue: Sequence[Left], slots: int, *, prefill_tps: float, step_s: float
) -> list[float]:
    """Seconds until each of ``queue``, in its order, gets a slot.

    Prompts are computed one after the other at ``prefill_tps`` (tokens/s); every answer gets one token in ``step_s``
    seconds. Without measurements nothing is known: an empty list.
    """
    if prefill_tps <= 0 or step_s <= 0:
        return []
    prompts, ends = 0.0, [0.0] * max(0, slots - len(running))
    for one in running:
        prompts += one.prompt / prefill_tps
        ends.append(prompts + one.answer * step_s)
    heapq.heapify(ends)
    starts = []
    for one in queue:
        start = heapq.heappop(ends)
        starts.append(start)
        prompts = max(prompts, start) + one.prompt / prefill_tps
        heapq.heappush(ends, prompts + one.answer * step_s)
    return starts
