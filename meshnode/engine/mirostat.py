"""Mirostat: a filter steered so that the surprise of what is drawn nears a target (Basu et al. 2020). Pure.

As in llama.cpp, version 1 estimates Zipf's exponent from the 100 likeliest tokens and keeps the ``k`` that follow from
it; version 2 keeps the tokens whose surprise is at most ``mu``. Each token drawn then moves ``mu``:
``mu -= eta * (surprise - tau)``, with ``mu = 2 * tau`` at the start and surprise in bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.filters import Candidates, best, degrees
from meshnode.errors import InvalidField

_ESTIMATED_FROM = 100
"""Tokens that Zipf's exponent is estimated from (llama.cpp's ``m``)."""
_FARTHEST = 1e12
"""Bound of ``mu``, so that it stays a number."""


class Mirostat:
    """The state of one choice: ``mu``, in bits."""

    def __init__(self, sampling: Sampling) -> None:
        if sampling.mirostat not in (1, 2):
            raise InvalidField(f"mirostat is {sampling.mirostat}; allowed: 0, 1 and 2.", param="mirostat")
        for name in ("mirostat_tau", "mirostat_eta"):
            if not math.isfinite(getattr(sampling, name)):
                raise InvalidField(f"{name} is {getattr(sampling, name)}; it must be a finite number.", param=name)
        self._version = sampling.mirostat
        self._temperature = degrees(sampling.temperature)
        self._tau, self._eta = sampling.mirostat_tau, sampling.mirostat_eta
        self.mu = _bounded(2 * self._tau)

    def narrow(self, row: Logits) -> Candidates:
        """What ``mu`` leaves of a row: distances to its best logit, divided by the temperature.

        The row holds at least one finite logit and nothing but numbers below infinity.
        """
        found = best(row, self._width(row))
        return Candidates(found.tokens, (found.logits - found.logits[0]) / self._temperature)

    def _width(self, row: Logits) -> int:
        if self._version == 1:
            first = best(row, _ESTIMATED_FROM).logits / self._temperature
            return zipf_width(first, self.mu, row.size)
        distances = (row.astype(np.float64) - float(row.max())) / self._temperature
        limit = math.log(np.exp(distances).sum()) - self.mu * math.log(2)
        return max(1, int(np.count_nonzero(distances >= limit)))

    def observe(self, surprise: float) -> None:
        """A token of this surprise (bits, among what was left) came out."""
        self.mu = _bounded(self.mu - self._eta * (surprise - self._tau))


def zipf_width(logits: NDArray[np.float64], mu: float, n_vocab: int) -> int:
    """How many tokens version 1 keeps, 1 to ``n_vocab``; ``logits`` are the likeliest, best first.

    ``k = (epsilon * 2**mu / (1 - n_vocab**-epsilon)) ** (1 / s)`` with ``epsilon = s - 1``, computed by logarithms.
    """
    if logits.size < 2:
        return 1
    ranks = np.arange(1, logits.size, dtype=np.float64)
    steps = np.log((ranks + 1) / ranks)
    s = float(steps @ -np.diff(logits)) / float(steps @ steps)
    epsilon, size = s - 1, math.log(n_vocab)
    ratio = 1 / size if abs(epsilon) < 1e-12 else epsilon / -math.expm1(-epsilon * size)
    bits = math.log2(ratio) + mu
    if s * math.log2(n_vocab) <= bits:
        return n_vocab
    return max(1, int(2 ** (bits / s))) if bits > 0 else 1


def surprise(candidates: Candidates, token: int) -> float:
    """Bits of surprise of a token among candidates whose logits are final."""
    distances = candidates.logits - candidates.logits.max()
    chosen = distances[np.flatnonzero(candidates.tokens == token)[0]]
    return float((math.log(np.exp(distances).sum()) - chosen) / math.log(2))


def _bounded(mu: float) -> float:
    return min(max(mu, -_FARTHEST), _FARTHEST)
