"""The engine's noise, drawn from its nested streams one number at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """SplitMix64's output function."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def splitmix64(state: int) -> Iterator[int]:
    """SplitMix64 as its authors wrote it: a stream of 64-bit numbers."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        yield mix(state)


def output(state: int, index: int) -> int:
    """Output number ``index`` of the stream begun at ``state``."""
    return next(islice(splitmix64(state), index, None))


def gumbel(seed: int, choice: int, position: int, token: int) -> float:
    """The noise of one token."""
    bits = output(output(output(mix(seed & MASK), choice), position), token)
    return -math.log(-math.log(((bits >> 12) + 0.5) / 2**52))
