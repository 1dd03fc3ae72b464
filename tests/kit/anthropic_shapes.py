"""Anthropic's answers as strict types, written from its API reference, and a reader that holds a stream to its order.

What is ours beside them (``timings``, ``mesh``, what a model's entry tells) is named, so that nothing else gets by.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

Raw = Mapping[str, Any]


class Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A shape that has these fields and no others."""


class Text(Strict, tag="text"):
    """A block of text."""

    text: str


class Thinking(Strict, tag="thinking"):
    """A block of thought."""

    thinking: str
    signature: str


class ToolUse(Strict, tag="tool_use"):
    """A call."""

    id: str
    name: str
    input: dict[str, Any]


class Details(Strict):
    """``output_tokens_details``."""

    thinking_tokens: int


class DeltaUsage(Strict):
    """``usage`` of ``message_delta``."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens_details: Details


class Created(Strict):
    """``cache_creation``."""

    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class Usage(DeltaUsage):
    """``usage`` of a message."""

    cache_creation: Created
    server_tool_use: None
    service_tier: Literal["standard", "priority", "batch"]


class Refusal(Strict):
    """``stop_details``."""

    type: Literal["refusal"]
    category: str | None
    explanation: str | None


Reason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"
]


class Edits(Strict):
    """``context_management`` of an answer."""

    applied_edits: list[Any]


class Mesh(Strict):
    """``mesh``, which is ours."""

    notes: list[str] = []
    receipt: str | None = None
    cost: int | None = None


class Message(Strict):
    """A whole message, or the one that a stream begins with."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Text | Thinking | ToolUse]
    stop_reason: Reason | None
    stop_sequence: str | None
    stop_details: Refusal | None
    usage: Usage
    context_management: Edits | None = None
    mesh: Mesh | None = None
    timings: dict[str, float] | None = None


class MessageStart(Strict, tag="message_start"):
    """The first event."""

    message: Message


class BlockStart(Strict, tag="content_block_start"):
    """A block begins."""

    index: int
    content_block: Text | Thinking | ToolUse


class TextDelta(Strict, tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(Strict, tag="thinking_delta"):
    """More thought."""

    thinking: str


class SignatureDelta(Strict, tag="signature_delta"):
    """A thought's signature."""

    signature: str


class InputDelta(Strict, tag="input_json_delta"):
    """More of a call's input."""

    partial_json: str


class BlockDelta(Strict, tag="content_block_delta"):
    """A block goes on."""

    index: int
    delta: TextDelta | ThinkingDelta | SignatureDelta | InputDelta


class BlockStop(Strict, tag="content_block_stop"):
    """A block ends."""

    index: int


class Ending(Strict):
    """``delta`` of ``message_delta``."""

    stop_reason: Reason
    stop_sequence: str | None
    stop_details: Refusal | None


class MessageDelta(Strict, tag="message_delta"):
    """Why the answer ended, and all its counts."""

    delta: Ending
    usage: DeltaUsage
    context_management: Edits | None = None
    mesh: Mesh | None = None
    timings: dict[str, float] | None = None


class MessageStop(Strict, tag="message_stop"):
    """The last event."""


class Ping(Strict, tag="ping"):
    """Nothing new."""


class Error(Strict):
    """``error`` of an error."""

    type: str
    message: str


class ErrorEvent(Strict, tag="error"):
    """An error, as an event or as a body."""

    error: Error
    request_id: str | None = None


class Model(msgspec.Struct, kw_only=True):
    """A model; what is ours stands beside."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active", "deprecated", "retired"]
    max_input_tokens: int | None
    max_tokens: int | None
    capabilities: None


class Page(Strict):
    """A page of models."""

    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


StreamEvent = (
    MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping | ErrorEvent
)  # fmt: skip


def message(raw: object) -> Message:
    """A one-shot answer, strictly."""
    return msgspec.convert(raw, Message)


def events(chunks: Iterable[Raw]) -> list[StreamEvent]:
    """Events of a stream, strictly."""
    return [msgspec.convert(chunk, StreamEvent) for chunk in chunks]


def frames(body: str) -> list[StreamEvent]:
    """Events in a stream's text; each is called as the type of its data."""
    found = []
    for frame in filter(None, body.split("\n\n")):
        if frame.startswith(":"):
            continue
        name, data = frame.split("\n")
        raw = json.loads(data.removeprefix("data: "))
        assert name == f"event: {raw['type']}"
        found.append(raw)
    return events(found)


class Reading:
    """The message that a stream adds up to, as a client would read it; asserts the order of its events."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self.error: Error | None = None
        self.over = False
        self._open: str | None = None
        self._json = ""

    def take(self, event: StreamEvent) -> None:
        """One more event."""
        assert not self.over, f"{event} after the last event"
        if isinstance(event, MessageStart):
            assert self.message is None
            assert (event.message.content, event.message.stop_reason, event.message.usage.output_tokens) == (
                [],
                None,
                0,
            )
            self.message = event.message
        elif isinstance(event, ErrorEvent):
            self.error, self.over = event.error, True
        elif not isinstance(event, Ping):
            assert self.message is not None, f"{event} before message_start"
            self._within(self.message, event)

    def _within(self, message: Message, event: StreamEvent) -> None:
        match event:
            case BlockStart():
                assert self._open is None
                assert event.index == len(message.content)
                block = event.content_block
                empty = {"text": "", "thinking": "", "signature": "", "input": {}}
                assert all(getattr(block, name) == value for name, value in empty.items() if hasattr(block, name))
                message.content.append(block)
                self._open, self._json = type(block).__name__, ""
            case BlockDelta():
                assert event.index == len(message.content) - 1
                self._grow(message.content[-1], event)
            case BlockStop():
                assert self._open is not None
                assert event.index == len(message.content) - 1
                block = message.content[-1]
                if isinstance(block, ToolUse):
                    block.input = json.loads(self._json or "{}")
                assert not isinstance(block, Thinking) or block.signature
                self._open = None
            case MessageDelta():
                assert self._open is None
                self._end(message, event)
            case MessageStop():
                assert message.stop_reason is not None
                self.over = True

    def _grow(self, block: Text | Thinking | ToolUse, event: BlockDelta) -> None:
        assert self._open is not None
        match block, event.delta:
            case Text(), TextDelta(text=text):
                block.text += text
            case Thinking(), ThinkingDelta(thinking=thinking):
                assert not block.signature
                block.thinking += thinking
            case Thinking(), SignatureDelta(signature=signature):
                assert not block.signature
                block.signature = signature
            case ToolUse(), InputDelta(partial_json=partial):
                self._json += partial
            case _:
                raise AssertionError(f"{event.delta} in a block of {type(block).__name__}")

    @staticmethod
    def _end(message: Message, event: MessageDelta) -> None:
        assert message.stop_reason is None
        ending = event.delta
        message.stop_reason, message.stop_sequence = ending.stop_reason, ending.stop_sequence
        message.stop_details = ending.stop_details
        for name in DeltaUsage.__struct_fields__:
            setattr(message.usage, name, getattr(event.usage, name))
        message.timings = event.timings


def read(stream: Iterable[StreamEvent]) -> Reading:
    """A whole stream, read."""
    reading = Reading()
    for event in stream:
        reading.take(event)
    return reading
