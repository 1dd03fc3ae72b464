"""Bodies that are read in several steps and for which no one struct stands: for the description only. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from meshnode.api.chat_schema import ChatFields
from meshnode.api.compare_schema import Models
from meshnode.api.responses.schema import ResponseFields


class ChatToTokens(ChatFields, kw_only=True):
    """A conversation to be cut into tokens, with all that belongs to it."""

    with_pieces: bool | None = None
    add_special: bool | None = None


class Comparison(ChatFields, kw_only=True):
    """A chat request to several models at a time; each answers for itself, and nothing is kept."""

    models: Models


class CountedResponse(ResponseFields, kw_only=True):
    """A Responses request of which only the prompt counts."""


class Upload(msgspec.Struct, kw_only=True):
    """A file of requests, one a line."""

    file: Any
    purpose: Literal["batch"]
    anchor: Literal["created_at"] | None = msgspec.field(default=None, name="expires_after[anchor]")
    seconds: int | None = msgspec.field(default=None, name="expires_after[seconds]")
