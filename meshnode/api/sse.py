"""Server-sent events as bytes (WHATWG HTML, 9.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

DONE: Final = b"data: [DONE]\n\n"
"""OpenAI's last event."""

_encoder: Final = msgspec.json.Encoder()


def encode(data: Mapping[str, Any]) -> bytes:
    """JSON without spaces."""
    return _encoder.encode(data)


def event(data: Mapping[str, Any]) -> bytes:
    """One event; JSON never holds a raw line break, so one ``data:`` line is enough."""
    return b"data: " + encode(data) + b"\n\n"


def named(data: Mapping[str, Any]) -> bytes:
    """One event that is called as the ``type`` of its data."""
    return b"event: " + str(data["type"]).encode() + b"\n" + event(data)


def events(many: Iterable[Mapping[str, Any]]) -> bytes:
    """Several events in one piece."""
    return b"".join(map(event, many))


def comment(text: str) -> bytes:
    """A line clients skip; keeps proxies and timeouts from cutting a stream that waits."""
    return b": " + " ".join(text.split()).encode() + b"\n\n"
