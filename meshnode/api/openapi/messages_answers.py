"""What Anthropic's clients are answered, as structs: for the description only. Pure.

Source: Anthropic's API reference, "Messages", "Streaming Messages" and "Models".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from meshnode.api.openapi.answers import ModelFacts, Timings, Told
from meshnode.api.openapi.endpoint import Either

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"]


class TextContent(Told):
    """What the model said."""

    type: Literal["text"]
    text: str


class ThinkingContent(Told):
    """What the model thought; empty where the caller did not want to be told. Send it back with its signature."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseContent(Told):
    """A call of a tool; in a stream its input begins empty and comes in pieces."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(Told):
    """Tokens of the answer that are thoughts."""

    thinking_tokens: int


class MessageCounts(Told):
    """Tokens so far: read anew, found in the cache, written."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens


class MessageUsage(MessageCounts):
    """The same, with what Anthropic's clients expect beside it."""

    cache_creation: dict[str, int]
    server_tool_use: None
    service_tier: Literal["standard"]


class Refused(Told):
    """Why the model refused, as far as it said."""

    type: Literal["refusal"]
    category: None
    explanation: None


class Notes(Told):
    """What is to be noted of the request: tools that were left out, say."""

    notes: list[str]


class MessageAnswer(Told):
    """A message. ``timings`` come with a whole one."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Any]
    stop_reason: StopReason | None
    stop_sequence: str | None
    stop_details: Refused | None
    usage: MessageUsage
    context_management: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    mesh: Notes | msgspec.UnsetType = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET


class MessageStart(Told):
    """The first event: the message, still empty."""

    type: Literal["message_start"]
    message: MessageAnswer


class ContentBlockStart(Told):
    """A block begins."""

    type: Literal["content_block_start"]
    index: int
    content_block: Any


class ContentBlockDelta(Told):
    """A block grows: ``text_delta``, ``input_json_delta``, ``thinking_delta`` or ``signature_delta``."""

    type: Literal["content_block_delta"]
    index: int
    delta: dict[str, Any]


class ContentBlockStop(Told):
    """A block is whole."""

    type: Literal["content_block_stop"]
    index: int


class Ending(Told):
    """Why the message ended."""

    stop_reason: StopReason
    stop_sequence: str | None
    stop_details: Refused | None


class MessageDelta(Told):
    """The message is whole; all counts."""

    type: Literal["message_delta"]
    delta: Ending
    usage: MessageCounts
    context_management: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET


class MessageStop(Told):
    """The last event."""

    type: Literal["message_stop"]


class Ping(Told):
    """Nothing new, still alive."""

    type: Literal["ping"]


MessageEvent = Either(
    (MessageStart, ContentBlockStart, ContentBlockDelta, ContentBlockStop, MessageDelta, MessageStop, Ping)
)
"""The data of one event of a stream."""
CONTENT = Either((TextContent, ThinkingContent, ToolUseContent))
"""What a message is made of."""


class MessageTokens(Told):
    """How many tokens a prompt is."""

    input_tokens: int


class ModelInfo(ModelFacts):
    """A model as Anthropic's clients read it, with what this node knows of it beside."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"]
    deprecated_at: None
    retires_at: None
    line: None
    capabilities: None
    max_input_tokens: int
    max_tokens: int


class ModelPage(Told):
    """A part of the list of models."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None
