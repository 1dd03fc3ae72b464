"""``POST /v1/responses/input_tokens``: how many tokens a request's prompt has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshnode.api.render import NOTHING, Heading, Unstreamed, counted
from meshnode.events import Event


class CountRenderer(Unstreamed):
    """One count."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._tokens = 0

    def collect(self, event: Event) -> None:
        """Take one event; whichever tells the number."""
        self._tokens = counted(event, self._tokens)

    def whole(self) -> dict[str, Any]:
        """The answer."""
        return {"object": "response.input_tokens", "input_tokens": self._tokens}
