"""What a prompt is to a model, in llama.cpp's shapes: ``/tokenize``, ``/detokenize`` and ``/apply-template``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshnode.api.render import NOTHING, Heading, Unstreamed
from meshnode.events import Counted, Event


class TokensRenderer(Unstreamed):
    """One prompt as its echo's ``show`` says: ``tokens``, ``pieces`` (with what each stands for), or its text under
    the name of ``content`` or ``prompt``."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._show = str(echo.get("show", "tokens"))
        self._counted = Counted(0)

    def collect(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Counted):
            self._counted = event

    def whole(self) -> dict[str, Any]:
        """The answer."""
        counted = self._counted
        if self._show == "tokens":
            return {"tokens": list(counted.token_ids)}
        if self._show != "pieces":
            return {self._show: counted.text}
        pairs = zip(counted.token_ids, counted.pieces, strict=True)
        return {"tokens": [{"id": token, "piece": _piece(piece)} for token, piece in pairs]}


def _piece(piece: bytes) -> str | list[int]:
    """The text of a token, or its bytes where it is only a part of a character."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
