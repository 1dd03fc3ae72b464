"""What clients of OpenAI's Responses are answered, as structs: for the description only. Pure.

Source: OpenAI's API reference for Responses. Of an event of a stream only what each has is told here; its kinds and
their order stand in the documentation, under "Streaming".
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from meshnode.api.openapi.answers import CachedTokens, ReasoningTokens, Timings, Told

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ReadTokens(CachedTokens):
    """Tokens of the prompt that came out of the cache, and that went into it."""

    cache_write_tokens: int


class ResponseUsage(Told):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: ReadTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class Fault(Told):
    """Why a response failed; ``code`` is one of OpenAI's few, ``type`` this node's own."""

    code: str
    message: str
    param: str | None = None
    type: str = ""


class OutputItem(Told):
    """A message, a thought or a call; ``type`` says which, and what else it has."""

    id: str
    type: Literal["message", "reasoning", "function_call", "custom_tool_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    summary: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    encrypted_content: str | msgspec.UnsetType | None = msgspec.UNSET
    call_id: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    namespace: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET
    input: str | msgspec.UnsetType = msgspec.UNSET


class Response(Told):
    """A response: its items, how it fared, and what it repeats of the request; all but ``timings`` always there."""

    id: str
    object: Literal["response"]
    created_at: float
    completed_at: float | None
    status: Status
    model: str
    output: list[OutputItem]
    error: Fault | None
    incomplete_details: dict[str, Any] | None
    usage: ResponseUsage | None
    background: bool
    frequency_penalty: float
    instructions: Any
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, Any]
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt: dict[str, Any] | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: str
    user: str | None
    timings: Timings | msgspec.UnsetType | None = msgspec.UNSET


class InputTokens(Told):
    """How many tokens a prompt is."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ResponseDeleted(Told):
    """A response that is no longer kept."""

    id: str
    object: Literal["response"]
    deleted: bool


class InputItems(Told):
    """The items of a request."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class ResponseEvent(Told):
    """One event of a stream: its kind, its place in the row, and what it is about."""

    type: str
    sequence_number: int
    response: Response | msgspec.UnsetType = msgspec.UNSET
    item: OutputItem | msgspec.UnsetType = msgspec.UNSET
    part: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    item_id: str | msgspec.UnsetType = msgspec.UNSET
    output_index: int | msgspec.UnsetType = msgspec.UNSET
    content_index: int | msgspec.UnsetType = msgspec.UNSET
    delta: str | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    refusal: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET
    input: str | msgspec.UnsetType = msgspec.UNSET
    name: str | msgspec.UnsetType = msgspec.UNSET
    logprobs: list[Any] | msgspec.UnsetType = msgspec.UNSET
    code: str | msgspec.UnsetType | None = msgspec.UNSET
    message: str | msgspec.UnsetType = msgspec.UNSET
    param: str | msgspec.UnsetType | None = msgspec.UNSET
