"""``POST /v1/messages/count_tokens``: how many tokens a prompt is, as Anthropic's object. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshnode.api.render import NOTHING, Heading, Unstreamed, counted
from meshnode.events import Event


class CountRenderer(Unstreamed):
    """One count: the engine's own, of the prompt as the model's template renders it."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._tokens = 0

    def collect(self, event: Event) -> None:
        """Take one event."""
        self._tokens = counted(event, self._tokens)

    def whole(self) -> dict[str, Any]:
        """The count."""
        return {"input_tokens": self._tokens}
