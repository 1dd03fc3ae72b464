"""DRY: a penalty that grows with the length of the repetition a token would carry on (p-e-w 2024). Pure.

For each place in the history, the tokens that led up to it are compared with those at the end. Where ``length`` of them
agree, and that is at least what is allowed, the token that followed there would lengthen the repetition: its logit
loses ``multiplier * base ** (length - allowed)``. A sequence breaker ends the comparison.

The lengths are kept from token to token: one more token lengthens those of the places that have it, and ends the
others. That is one comparison of the token with the history, where llama.cpp compares the history with itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.breakers import Breakers

_LARGEST_LOG = 88.7228391
"""Natural logarithm of the largest float32: llama.cpp bounds the exponent by it."""
_MOST = 1e30
"""Most that a logit can lose or win, so that it stays a number."""
_COUNT = 2**31 - 1


def acts(sampling: Sampling) -> bool:
    """Whether DRY does anything."""
    return sampling.dry_multiplier != 0 and sampling.dry_base >= 1 and sampling.dry_penalty_last_n != 0


class Dry:
    """The repetitions in one choice's history, which begins with ``prompt``."""

    def __init__(self, sampling: Sampling, breakers: Breakers, prompt: Sequence[int]) -> None:
        self._multiplier, self._base = sampling.dry_multiplier, sampling.dry_base
        self._allowed = min(max(sampling.dry_allowed_length, -_COUNT), _COUNT)
        self._last_n = sampling.dry_penalty_last_n
        self._breakers = breakers
        room = max(256, 2 * len(prompt))
        self._history = np.empty(room, dtype=np.int32)
        self._history[: len(prompt)] = prompt
        self._size = len(prompt)
        self._lengths = np.zeros(room, dtype=np.int32)
        """Of each place: how many tokens up to and with it agree with the history's last."""
        self._lengths[: self._size] = _agreeing(self._history[: self._size].tolist())
        self._repeated = np.flatnonzero(self._lengths[: self._size])
        self._breaker = (-1, 0)
        """Place of the last breaker's head, and how many tokens it has; the place is -1 where there was none."""
        self._find_breaker(self._size)

    def accept(self, token: int) -> None:
        """The history has one more token."""
        if self._size == self._history.size:
            self._history = np.concatenate([self._history, np.empty_like(self._history)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        start, size = self._start(), self._size
        repeated = start + np.flatnonzero(self._history[start:size] == token)
        before = self._lengths[repeated - 1]  # of place 0 that is the last of the array, which is 0: there is room
        self._lengths[self._repeated] = 0
        self._lengths[repeated] = before + 1
        self._repeated = repeated
        self._history[size] = token
        self._size += 1
        self._find_breaker(self._breakers.longest_tail + 1)

    def penalise(self, row: Logits) -> None:
        """Take the penalties from the logits in ``row``, in place."""
        start, size, allowed = self._start(), self._size, self._allowed
        head, length = self._breaker
        limit = size - head - length if head >= start else size - start
        if size - start <= max(allowed, 1) or limit < allowed:
            return
        places = start + np.flatnonzero(self._lengths[start : size - 1] >= allowed)
        lengths = np.minimum(np.minimum(self._lengths[places], limit), places - start + 1)
        tokens = self._history[places + 1].astype(np.int64)
        kept = (lengths >= allowed) & (tokens < row.size) & (tokens >= 0)
        if kept.any():
            self._take(row, tokens[kept], lengths[kept])

    def _take(self, row: Logits, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """The longest repetition of each token counts; tokens that are breakers by themselves are spared."""
        unique, which = np.unique(tokens, return_inverse=True)
        longest = np.zeros(unique.size, dtype=np.int64)
        np.maximum.at(longest, which, lengths)
        kept = ~self._breakers.are_alone(unique)
        exponents = longest[kept] - self._allowed
        if self._base > 1.000001 and (most := int(_LARGEST_LOG / math.log(self._base))):
            exponents = np.minimum(exponents, most)
        with np.errstate(over="ignore"):
            penalties = self._multiplier * self._base ** exponents.astype(np.float64)
        row[unique[kept]] -= np.clip(penalties, -_MOST, _MOST).astype(np.float32)

    def _start(self) -> int:
        """Where the part of the history begins that counts."""
        return 0 if self._last_n < 0 else max(0, self._size - self._last_n)

    def _find_breaker(self, depth: int) -> None:
        """Look for a breaker whose head is among the last ``depth`` tokens: the nearest head counts, its longest tail.

        A head further back than the longest tail was found when its tail was whole.
        """
        breakers, start = self._breakers, max(0, self._size - depth)
        recent = self._history[start : self._size]
        alone = np.flatnonzero(breakers.are_alone(recent.astype(np.int64)))
        first = int(alone[-1]) if alone.size else -1
        tokens = recent.tolist()
        for at in range(len(tokens) - 1, max(first, 0) - 1, -1) if breakers.heads else ():
            tails = [tail for heads in breakers.heads for tail in heads.get(tokens[at], ())]
            after = tuple(tokens[at + 1 : at + 1 + breakers.longest_tail]) if tails else ()
            fitting = [len(tail) for tail in tails if after[: len(tail)] == tail]
            if fitting:
                self._breaker = (start + at, 1 + max(fitting))
                return
        if first >= 0:
            self._breaker = (start + first, 1)


def _agreeing(history: list[int]) -> list[int]:
    """Of each place but the last: how many tokens up to and with it agree with the history's last (Z-algorithm)."""
    size = len(history)
    backwards = history[::-1]
    found = [0] * size
    left = right = 0
    for at in range(1, size):
        length = min(found[at - left], right - at) if at < right else 0
        while at + length < size and backwards[length] == backwards[at + length]:
            length += 1
        found[at] = length
        if at + length > right:
            left, right = at, at + length
    return found[::-1]
