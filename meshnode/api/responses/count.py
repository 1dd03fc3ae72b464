"""``POST /v1/responses/input_tokens``: how many tokens a request's prompt has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshnode.api.render import NOTHING, Heading
from meshnode.errors import MeshnodeError
from meshnode.events import Counted, Event, Started


class CountRenderer:
    """One count."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._tokens = 0

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """None: this answer is not streamed."""
        return []

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """None: this answer is not streamed."""
        return []

    def collect(self, event: Event) -> None:
        """Take one event; whichever tells the number."""
        if isinstance(event, Counted):
            self._tokens = event.tokens
        elif isinstance(event, Started):
            self._tokens = event.prompt_tokens

    def whole(self) -> dict[str, Any]:
        """The answer."""
        return {"object": "response.input_tokens", "input_tokens": self._tokens}
