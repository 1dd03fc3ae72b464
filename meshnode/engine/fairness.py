"""Who of several callers comes next: the one who has been served least. Pure.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024): each caller's counter
grows with the tokens computed for it, a token of an answer counting twice one of a prompt. The smallest counter is
served first, so that a caller with many or long requests waits for its own turn and not everybody for it. Who comes
back after a pause is lifted to the smallest counter of those who are there: nobody saves up service by being away.
"""

from __future__ import annotations

from collections.abc import Iterable

PROMPT_WEIGHT, ANSWER_WEIGHT = 1, 2
"""What one computed token adds, as in the paper."""


class TokenCounters:
    """Weighted tokens served to each caller, since the engine was last idle."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._floor = 0.0

    def of(self, caller: str) -> float:
        """The caller's counter; who has none stands at the floor."""
        return self._counters.get(caller, self._floor)

    def arrive(self, caller: str) -> None:
        """A caller has a request, perhaps after a pause."""
        self._counters[caller] = max(self.of(caller), self._floor)

    def charge(self, caller: str, *, prompt: int = 0, answer: int = 0) -> None:
        """So many tokens of prompts and of answers are computed for a caller."""
        self._counters[caller] = self.of(caller) + PROMPT_WEIGHT * prompt + ANSWER_WEIGHT * answer

    def settle(self, here: Iterable[str]) -> None:
        """These callers have requests now. Of the others, those are forgotten whom a return would lift anyway."""
        present = set(here)
        self._floor = min((self.of(caller) for caller in present), default=0.0)
        if not present:
            self._counters.clear()
        kept = self._counters.items()
        self._counters = {caller: n for caller, n in kept if caller in present or n > self._floor}
