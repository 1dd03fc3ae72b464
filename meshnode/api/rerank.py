"""``POST /v1/rerank``: the documents of one request by their scores, in the shape of Jina's and llama.cpp's. Pure.

Scores are the model's own numbers, as llama.cpp's server gives them: the higher the better, of no fixed range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.render import NOTHING, Heading, Unstreamed
from meshnode.events import Event, Finished, RerankResult
from meshnode.events import Usage as Counts


class RerankRenderer(Unstreamed):
    """The best ``top_n`` of its echo (all, without it), with their text where the echo has the ``documents``."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._top_n: int | None = echo.get("top_n")
        self._documents: Sequence[str] = echo.get("documents", ())
        self._scores: dict[int, float] = {}
        self._usage = Counts()

    def collect(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, RerankResult):
            self._scores[event.index] = event.score
        elif isinstance(event, Finished):
            self._usage = event.usage

    def whole(self) -> dict[str, Any]:
        """The answer, best first; the earlier of equals first."""
        tokens = self._usage.prompt_tokens
        ranked = sorted(self._scores.items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "id": self._heading.id,
            "object": "list",
            "model": self._heading.model,
            "results": [self._result(index, score) for index, score in ranked[: self._top_n]],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _result(self, index: int, score: float) -> dict[str, Any]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        return result | {"document": {"text": self._documents[index]}} if self._documents else result
