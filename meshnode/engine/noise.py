"""Counter-based noise: random numbers that are functions of where they are used; there is no state. Pure.

Whatever runs beside a choice, and on whichever peer it goes on, the noise at one place of it is the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

XTC_LANE: Final = 1 << 32
"""Number of the stream's output that decides whether XTC acts; no token id reaches it."""
_BLOCK = 8192
"""Tokens computed at a time: in arrays that stay in the processor's cache, a vocabulary takes a fifth of the time."""
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
"""SplitMix64's increment: 2**64 divided by the golden ratio, made odd."""


def _mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014; constants: Stafford's Mix13) of a 64-bit number."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _mix_all(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """:func:`_mix` of each number; uint64 arithmetic wraps."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _stream(seed: int, choice: int, position: int) -> int:
    """Where the stream of one output position begins."""
    stream = _mix(seed & _MASK)
    for index in (choice, position):
        stream = _mix((stream + (index + 1) * _GAMMA) & _MASK)
    return stream


def noise(seed: int, choice: int, position: int, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard Gumbel noise for each token id.

    The bits are nested SplitMix64 streams: output number ``choice`` of the stream begun at the mixed seed begins
    a stream, whose output number ``position`` begins another, whose output number ``token`` gives, in its upper
    52 bits, the middle of one of 2**52 equal parts of (0, 1); both logarithms are therefore finite.
    """
    stream = np.uint64(_stream(seed, choice, position))
    gumbel = np.empty(tokens.size)
    for start in range(0, tokens.size, _BLOCK):
        block = tokens[start : start + _BLOCK].astype(np.uint64)
        bits = _mix_all(stream + (block + np.uint64(1)) * np.uint64(_GAMMA))
        uniforms = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        gumbel[start : start + _BLOCK] = -np.log(-np.log(uniforms))
    return gumbel


def uniform(seed: int, choice: int, position: int, lane: int) -> float:
    """A number in (0, 1): output number ``lane`` of the stream that :func:`noise` takes its tokens' bits from."""
    bits = _mix((_stream(seed, choice, position) + (lane + 1) * _GAMMA) & _MASK)
    return ((bits >> 12) + 0.5) * 2.0**-52
