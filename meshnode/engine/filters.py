"""Which tokens may come next: the filters between the penalties and the draw, in llama.cpp's order. Pure.

Top-n-sigma (Tang et al. 2024), top-k, locally typical (Meister et al. 2022), top-p (Holtzman et al. 2019), min-p
(Nguyen et al. 2024), XTC (p-e-w 2024), temperature. They leave what llama.cpp's samplers leave, up to the last digit at
a border: sums are float64 here. At a border of equal logits, lower token ids go first. A token whose logit is minus
infinity is never a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits

COLDEST: Final = 1e-30
"""Temperatures under this act like it: dividing by less would overflow."""
HOTTEST: Final = 1e30
"""Temperatures over this act like it: every candidate is as likely as the next."""
_SOME = 256
"""How many candidates are sorted first where a few are expected to be enough."""

Chance = Callable[[], float]
"""A random number in (0, 1), for the filter that asks for one."""
_Narrow = Callable[["Candidates"], "Candidates"]


class Candidates(NamedTuple):
    """Tokens still possible and their logits; best first, equal logits by id, unless a function says otherwise."""

    tokens: NDArray[np.int64]
    logits: NDArray[np.float64]


# --- of a whole row ---------------------------------------------------------------------------


def best(row: NDArray[np.floating[Any]], k: int) -> Candidates:
    """The ``k`` largest logits, fewer where fewer are possible. Exact, and cheap where ``k`` is small."""
    limit = _reached(row, k) if k < row.size else -np.inf
    tokens = np.flatnonzero(row >= limit if limit > -np.inf else row > -np.inf)
    logits = row[tokens].astype(np.float64)
    order = np.argsort(-logits, kind="stable")[:k]
    return Candidates(tokens[order], logits[order])


def _reached(row: NDArray[np.floating[Any]], k: int) -> np.floating[Any]:
    """A number that at least ``k`` logits reach, seldom many more.

    The row is dealt into lanes. The k-th largest of the lanes' maxima will do, for each of ``k`` lanes has a logit that
    reaches it; a maximum over lanes runs at memory speed, selecting among the whole row does not.
    """
    lanes = max(256, 16 * k)
    depth = row.size // lanes
    tops = row[: depth * lanes].reshape(depth, lanes).max(axis=0) if depth > 1 else row
    limit: np.floating[Any] = np.partition(tops, tops.size - k)[tops.size - k]
    return limit


def everything(row: Logits) -> Candidates:
    """All possible tokens, in no order but their ids'."""
    possible = row > -np.inf
    if possible.all():
        return Candidates(np.arange(row.size), row.astype(np.float64))
    tokens = np.flatnonzero(possible)
    return Candidates(tokens, row[tokens].astype(np.float64))


def tamed(row: Logits) -> Logits:
    """The row without NaN and infinity: NaN is impossible, and infinity is certain."""
    certain = np.isposinf(row)
    if certain.any():
        return np.where(certain, np.float32(0), np.float32(-np.inf))
    return np.where(np.isnan(row), np.float32(-np.inf), row)


def _within_sigma(row: Logits, n: float) -> int:
    """How many logits are within ``n`` standard deviations of the largest; never none."""
    possible = row[row > -np.inf].astype(np.float64)
    limit = possible.max() - min(n, 1e30) * possible.std()  # more of them change nothing, and are no number
    return max(1, int(np.count_nonzero(possible >= limit)))


def _nucleus(row: Logits, p: float) -> Candidates:
    """:func:`top_p` of the whole row, without sorting all of it where a few hold the mass."""
    peak = float(row.max())
    total = float(np.exp(row.astype(np.float64) - peak).sum())
    k = min(_SOME, row.size)
    while True:
        found = best(row, k)
        if k >= row.size or np.exp(found.logits - peak).sum() >= p * total:
            return top_p(found, p, total)
        k = min(8 * k, row.size)


def _near(row: Logits, log_p: float) -> Candidates:
    """At least what :func:`min_p` leaves of the whole row; it decides about the last digit."""
    peak = row.max()
    below = np.nextafter(np.float32(max(float(peak) + min(0.0, log_p), -3e38)), np.float32(-np.inf))
    return best(row, max(1, int(np.count_nonzero(row >= below))))


# --- of what is left ----------------------------------------------------------------------------


def top_p(candidates: Candidates, p: float, total: float | None = None) -> Candidates:
    """The fewest candidates that hold ``p`` of the mass (``total``; default that of all given), at least one."""
    mass = np.cumsum(np.exp(candidates.logits - candidates.logits[0]))
    enough = int(np.searchsorted(mass, p * (mass[-1] if total is None else total))) + 1
    return Candidates(candidates.tokens[:enough], candidates.logits[:enough])


def min_p(candidates: Candidates, log_p: float) -> Candidates:
    """Those at least ``exp(log_p)`` times as probable as the first, which always stays."""
    enough = max(1, int(np.count_nonzero(candidates.logits >= candidates.logits[0] + log_p)))
    return Candidates(candidates.tokens[:enough], candidates.logits[:enough])


def typical(candidates: Candidates, p: float) -> Candidates:
    """Those whose surprise is nearest the entropy, until they hold more than ``p`` of the mass. Takes any order."""
    distances = candidates.logits - candidates.logits.max()
    mass = np.exp(distances)
    total = mass.sum()
    mass /= total
    surprise = np.subtract(np.log(total), distances, out=distances)  # in place: new memory costs more than arithmetic
    surprise -= float(mass @ surprise)
    strange = np.negative(np.abs(surprise, out=surprise), out=surprise)
    k = min(_SOME, strange.size)
    while True:
        order = best(strange, k).tokens
        held = np.cumsum(mass[order])
        if held[-1] > p or k >= strange.size:
            break
        k = min(8 * k, strange.size)
    kept = order[: int(np.searchsorted(held, p, side="right")) + 1]
    return _sorted(candidates.tokens[kept], candidates.logits[kept])


def _sorted(tokens: NDArray[np.int64], logits: NDArray[np.float64]) -> Candidates:
    order = np.lexsort((tokens, -logits))
    return Candidates(tokens[order], logits[order])


def xtc(candidates: Candidates, threshold: float) -> Candidates:
    """Without all but the last of those that hold at least ``threshold`` of the mass. Takes and keeps any order."""
    mass = np.exp(candidates.logits - candidates.logits.max())
    high = np.flatnonzero(mass >= threshold * mass.sum())
    if high.size < 2:
        return candidates
    logits = candidates.logits[high]
    last = high[np.flatnonzero(logits == logits.min())[-1]]
    kept = np.ones(candidates.tokens.size, dtype=bool)
    kept[high] = False
    kept[last] = True
    return Candidates(candidates.tokens[kept], candidates.logits[kept])


def degrees(temperature: float) -> float:
    """The temperature to divide by."""
    return min(max(temperature, COLDEST), HOTTEST)


def tempered(candidates: Candidates, temperature: float) -> Candidates:
    """Divide the distances to the best logit by the temperature (the same distribution as dividing the logits)."""
    distances = candidates.logits - candidates.logits.max()
    distances /= degrees(temperature)
    return Candidates(candidates.tokens, distances)


# --- all of them --------------------------------------------------------------------------------


class Chain:
    """The filters that are on, for rows of ``n_vocab`` logits.

    The first of them takes the whole row, so it is the one whose cost counts. Top-n-sigma and top-k both keep the front
    of the sorted row, so together they are one.
    """

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self._sampling = sampling
        self._top_k = sampling.top_k if 0 < sampling.top_k < n_vocab else n_vocab
        self._cuts = self._top_k < n_vocab or sampling.top_n_sigma > 0
        self._narrow = tuple(self._later())
        self._has_xtc = sampling.xtc_probability > 0 and sampling.xtc_threshold <= 0.5

    @property
    def may_drop_the_best(self) -> bool:
        """Whether the most probable token can be among what is filtered out."""
        return self._has_xtc or self._sampling.typical_p < 1

    def narrow(self, row: Logits, chance: Chance) -> Candidates:
        """What is left of a row, its logits distances to the best of them, divided by the temperature.

        The row holds at least one finite logit and nothing but numbers below infinity.
        """
        found = self._first(row)
        for narrow in self._narrow:
            found = narrow(found)
        if self._has_xtc and found.tokens.size > 1 and chance() <= self._sampling.xtc_probability:
            found = xtc(found, self._sampling.xtc_threshold)
        return tempered(found, self._sampling.temperature)

    def _first(self, row: Logits) -> Candidates:
        how = self._sampling
        if self._cuts:
            few = _within_sigma(row, how.top_n_sigma) if how.top_n_sigma > 0 else row.size
            return best(row, min(few, self._top_k))
        if how.typical_p < 1:
            return typical(everything(row), how.typical_p)
        if how.top_p < 1:
            return _nucleus(row, how.top_p)
        if how.min_p > 0:
            return _near(row, math.log(how.min_p))
        return everything(row)

    def _later(self) -> Iterator[_Narrow]:
        """What follows the first; repeating that one would change nothing but the time."""
        how = self._sampling
        if how.typical_p < 1 and self._cuts:
            yield lambda found: typical(found, how.typical_p)
        if how.top_p < 1 and (self._cuts or how.typical_p < 1):
            yield lambda found: top_p(found, how.top_p)
        if how.min_p > 0:
            yield lambda found: min_p(found, math.log(how.min_p))
