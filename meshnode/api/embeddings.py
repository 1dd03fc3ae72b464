"""``POST /v1/embeddings``: the vectors of one request as OpenAI's object. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

from meshnode.api.render import NOTHING, Heading, Unstreamed
from meshnode.events import EmbeddingResult, Event, Finished
from meshnode.events import Usage as Counts


class EmbeddingRenderer(Unstreamed):
    """One request's vectors, as numbers or, where the echo says ``compact``, as base64 of little-endian float32."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._compact = bool(echo.get("compact"))
        self._vectors: dict[int, bytes] = {}
        self._usage = Counts()

    def collect(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, EmbeddingResult):
            self._vectors[event.index] = event.vector
        elif isinstance(event, Finished):
            self._usage = event.usage

    def whole(self) -> dict[str, Any]:
        """The answer; the vectors in the order of their inputs."""
        tokens = self._usage.prompt_tokens
        data = [
            {"object": "embedding", "index": index, "embedding": self._shown(vector)}
            for index, vector in sorted(self._vectors.items())
        ]
        return {
            "object": "list",
            "data": data,
            "model": self._heading.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _shown(self, vector: bytes) -> str | tuple[float, ...]:
        if self._compact:
            return base64.b64encode(vector).decode("ascii")
        return struct.unpack(f"<{len(vector) // 4}f", vector)
