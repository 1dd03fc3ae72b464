"""How long to wait before trying again. Pure: chance is an argument."""

from __future__ import annotations

from typing import NamedTuple


class BackOff(NamedTuple):
    """Decorrelated jitter: each wait is drawn between ``base_s`` and three times the last one, up to ``cap_s``.

    (M. Brooker, "Exponential Backoff and Jitter", 2015: it spreads retries best among the simple rules.)
    """

    base_s: float = 0.2
    cap_s: float = 30.0

    def after(self, last_s: float, chance: float) -> float:
        """The wait that follows one of ``last_s`` (0: none before), ``chance`` in 0..1."""
        most = max(self.base_s, min(self.cap_s, 3 * last_s))
        return self.base_s + chance * (most - self.base_s)
