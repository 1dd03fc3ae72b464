"""What the API answers, as structs: for the description only; renderers write their JSON by hand. Pure.

Tests hold real answers against these, so that nothing is described that does not come, and nothing comes undescribed.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Told(msgspec.Struct, kw_only=True):
    """Base of what is answered."""


class ErrorDetail(Told):
    """What was wrong, what to do, and where."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Told):
    """An error as OpenAI's clients read it."""

    error: ErrorDetail


class AnthropicErrorDetail(Told):
    """What was wrong."""

    type: str
    message: str


class AnthropicError(Told):
    """An error as Anthropic's clients read it."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str


class CachedTokens(Told):
    """Tokens of the prompt that had not to be computed."""

    cached_tokens: int


class ReasoningTokens(Told):
    """Tokens of the answer that are thoughts."""

    reasoning_tokens: int


class Usage(Told):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class Timings(Told):
    """llama.cpp's counts and times, with the wait before: milliseconds, tokens per second."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float
    queue_ms: float


class Account(Told):
    """What an answer of a peer cost, in micro-credits, and the id of its receipt."""

    receipt: str
    cost: int


class OtherToken(Told):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(OtherToken):
    """A token that came, and the likeliest ones at its place."""

    top_logprobs: list[OtherToken]


class ChatLogprobs(Told):
    """How likely each token was."""

    content: list[ChatToken]
    refusal: None


class Called(Told):
    """A function and its arguments as JSON text; in a stream the pieces of both."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str | msgspec.UnsetType = msgspec.UNSET


class ToolCall(Told):
    """A call of the model. In a stream ``index`` always comes, ``id`` and the name only with the first piece."""

    function: Called
    index: int | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET
    type: Literal["function"] | msgspec.UnsetType = msgspec.UNSET


class ChatMessage(Told):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET
    function_call: Called | msgspec.UnsetType = msgspec.UNSET


class ChatDelta(Told):
    """A piece of what the model says; the role comes with the first."""

    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType = msgspec.UNSET
    refusal: str | msgspec.UnsetType | None = msgspec.UNSET
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET
    function_call: Called | msgspec.UnsetType = msgspec.UNSET


FinishReason = Literal["stop", "length", "tool_calls", "function_call", "content_filter"]


class ChatChoice(Told):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatChunkChoice(Told):
    """A piece of one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class Headed(Told):
    """What every answer begins with."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(Headed):
    """A whole answer."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings


class ChatCompletionChunk(Headed):
    """One event of a stream. ``usage`` only where it was asked for: null but for the last, which has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET
    mesh: Account | msgspec.UnsetType = msgspec.UNSET


class CompletionLogprobs(Told):
    """How likely each token was, in four lists of one length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Told):
    """One continuation, or a piece of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(Headed):
    """A whole answer, or one event of a stream."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET


class Embedding(Told):
    """One vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Told):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Told):
    """The vectors, in the order of their inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Piece(Told):
    """A token and its text, or its bytes where it is only a part of a character."""

    id: int
    piece: str | list[int]


class Tokens(Told):
    """The tokens of a prompt; with ``with_pieces`` each with what it stands for."""

    tokens: list[int | Piece]


class TokensText(Told):
    """The text of tokens."""

    content: str


class Rendered(Told):
    """The text that a conversation is to a model."""

    prompt: str


class DocumentText(Told):
    """A document."""

    text: str


class Ranked(Told):
    """One document's score, the model's own number: the higher the better."""

    index: int
    relevance_score: float
    document: DocumentText | msgspec.UnsetType = msgspec.UNSET


class Reranked(Told):
    """The documents, best first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[Ranked]
    usage: EmbeddingUsage


class ComparedEnd(Told):
    """What the end of a model's answer says of it, or its error; times in milliseconds, cost in micro-credits."""

    entry: int
    model: str
    answered_by: str | msgspec.UnsetType | None = msgspec.UNSET
    node: str | msgspec.UnsetType | None = msgspec.UNSET
    route: str | msgspec.UnsetType | None = msgspec.UNSET
    time_ms: float | msgspec.UnsetType = msgspec.UNSET
    first_token_ms: float | msgspec.UnsetType | None = msgspec.UNSET
    cost: int | msgspec.UnsetType = msgspec.UNSET
    mesh: Account | msgspec.UnsetType = msgspec.UNSET
    error: ErrorDetail | msgspec.UnsetType = msgspec.UNSET
    status: int | msgspec.UnsetType = msgspec.UNSET


class ComparedEntry(ComparedEnd):
    """One model's answer, or its error; times in milliseconds, cost in micro-credits."""

    response: ChatCompletion | msgspec.UnsetType = msgspec.UNSET


class Compared(Told):
    """The answers, in the order in which the models were named."""

    id: str
    object: Literal["chat.comparison"]
    created: int
    data: list[ComparedEntry]


class ComparedChunk(ComparedEnd):
    """A chat chunk of one of the models; its last has what its entry has, an error only who failed and how."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    object: Literal["chat.completion.chunk"] | msgspec.UnsetType = msgspec.UNSET
    created: int | msgspec.UnsetType = msgspec.UNSET
    system_fingerprint: str | msgspec.UnsetType = msgspec.UNSET
    choices: list[ChatChunkChoice] | msgspec.UnsetType = msgspec.UNSET
    usage: Usage | msgspec.UnsetType = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET


class Prices(Told):
    """Micro-credits per token."""

    input_uc: int
    output_uc: int


class Provider(Told):
    """A peer that serves the model."""

    peer: str
    decode_tps: float
    context_length: int
    state: str
    prices: Prices


class ModelFacts(Told):
    """What this node knows of a model, whatever the shape it is listed in."""

    owned_by: Literal["local", "mesh"]
    context_length: int
    quantisation: str
    licence: str
    family: str
    parameters: int
    size_bytes: int | None
    modalities: list[str]
    kinds: list[str]
    state: str
    decode_tps: float | None
    prefill_tps: float | None
    providers: list[Provider]
    provider_count: int


class ModelEntry(ModelFacts):
    """A model of this node or of its peers; speeds in tokens per second, null until measured."""

    id: str
    object: Literal["model"]
    created: int


class ModelList(Told):
    """All models, this node's own first."""

    object: Literal["list"]
    data: list[ModelEntry]


class Health(Told):
    """How the node fares: ok, loading, failed or stopping."""

    status: Literal["ok", "loading", "failed", "stopping"]
    loading: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    fetching: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    failed: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
