"""Counts what a request was given, from the events of its answer and nothing else. Pure.

The provider counts the events it sends, the consumer those it receives: the same events give the same counts, however
they were packed into frames, so that neither has to believe the other.
"""

from __future__ import annotations

from typing import Final

from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    Prefilling,
    ReasoningDelta,
    RefusalDelta,
    RerankResult,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    decoded_tokens,
)

MOST: Final = (1 << 32) - 1
"""No count goes higher: what a :class:`meshnode.wire.messages.Mark` holds."""

_ANSWER: Final = (
    TextDelta,
    ReasoningDelta,
    RefusalDelta,
    ToolCallStarted,
    ToolCallDelta,
    RerankResult,
    ChoiceFinished,
    Finished,
)
"""What shows that the whole prompt was computed. A failure does not, nor does a vector: each is of one input."""


class Meter:
    """Tokens of one request so far; counts only grow.

    ``prompt`` tokens were computed, ``cached`` ones were not, as an earlier request had left them; their sum is the
    whole prompt once an answer has begun. A count that a peer claims beyond the prompt, below zero or a second time
    adds nothing.
    """

    def __init__(self) -> None:
        self.prompt = 0
        """Prompt tokens computed, without those found in a cache."""
        self.cached = 0
        """Prompt tokens found in a cache."""
        self.output = 0
        """Tokens of the answer, of all choices."""
        self._whole: int | None = None
        self._reused = 0
        self._reached = 0
        self._answering = False

    def take(self, event: Event) -> None:
        """Count one event, in the order in which they were sent."""
        if isinstance(event, Started) and self._whole is None:
            self._whole = _bounded(event.prompt_tokens, MOST)
            self._reused = _bounded(event.cached_tokens, self._whole)
        elif isinstance(event, Prefilling):
            self._reached = max(self._reached, _bounded(event.done, MOST))
        elif isinstance(event, _ANSWER):
            self._answering = True
            self.output = min(self.output + decoded_tokens(event), MOST)
        self._count_prompt()

    def ahead(self) -> tuple[int, int, int]:
        """``prompt``, ``cached`` and ``output`` as they will be when one more token of the answer has come."""
        if self._whole is None:
            return self.prompt, self.cached, self.output + 1
        return max(self.prompt, self._whole - self._reused), self._reused, self.output + 1

    def _count_prompt(self) -> None:
        """``Started`` says how long the prompt is, and later events how far it was computed."""
        if self._whole is None or not (self._answering or self._reached):
            return
        reached = self._whole if self._answering else min(self._reached, self._whole)
        self.cached = self._reused
        self.prompt = max(self.prompt, reached - self._reused)


def _bounded(count: int, most: int) -> int:
    return min(max(0, count), most)
