"""How a family of dialects puts chunks, waits and errors into bytes. Pure.

OpenAI's chat and completions send nameless events and end with ``[DONE]``; its responses and Anthropic's messages name
each event by the ``type`` of its data and end with the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from meshnode.api import errors, sse
from meshnode.errors import MeshnodeError

Body = Mapping[str, Any]


class Voice(NamedTuple):
    """``envelope`` makes the body of an error (its request id given), ``frame`` one event of a stream.

    ``done`` are the bytes after the last event; ``idle`` makes the bytes that keep a waiting stream alive, of what is
    waited for. ``ping`` does so once the answer has begun, where the family has an event for it.
    """

    envelope: Callable[[MeshnodeError, str], Body]
    frame: Callable[[Body], bytes]
    done: bytes
    idle: Callable[[str], bytes]
    ping: bytes = b""


def _openai(error: MeshnodeError, _request_id: str) -> Body:
    return errors.envelope(error)


OPENAI: Final = Voice(_openai, sse.event, sse.DONE, sse.comment)
"""Chat, completions, embeddings, and whatever is no dialect's own."""
RESPONSES: Final = Voice(_openai, sse.named, b"", sse.comment)
ANTHROPIC: Final = Voice(errors.anthropic, sse.named, b"", sse.comment, sse.named({"type": "ping"}))


def voice_of(path: str, headers: Mapping[str, str]) -> Voice:
    """The voice in which a request is refused that no dialect has read; names of ``headers`` in lower case."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return ANTHROPIC
    if path.endswith(("/messages", "/messages/count_tokens")) and path.startswith(("/v1/models/", "/openai/")):
        return ANTHROPIC  # the model is in the path
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return ANTHROPIC if headers.get("anthropic-version") else OPENAI
    return OPENAI
