"""What is told of jobs, files and batches, as structs: for the description only. Pure.

Source: OpenAI's API reference for files and batches.
"""

from __future__ import annotations

from typing import Any, Literal

from meshnode.api.openapi.answers import CachedTokens, ReasoningTokens, Told

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]


class Links(Told):
    """Where it is, and where it is cancelled."""

    self: str
    cancel: str


class JobHead(Told):
    """A job without its answer."""

    id: str
    object: Literal["job"]
    status: Status
    created_at: int
    ended_at: int | None
    dialect: str
    model: str | None
    links: Links


class JobTold(JobHead):
    """A job; once it is over with its answer, as its endpoint would have given it, or its error."""

    result: dict[str, Any] | None
    error: dict[str, Any] | None


class Page(Told):
    """A part of a list."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class JobPage(Page):
    """Some jobs."""

    data: list[JobHead]


class Deleted(Told):
    """What is no longer there."""

    id: str
    object: str
    deleted: bool


class StoredChat(Told):
    """A stored chat completion: what was answered, and its metadata."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]
    timings: dict[str, Any]
    metadata: dict[str, Any]


class ChatPage(Page):
    """Some stored chat completions."""

    data: list[StoredChat]


class ChatMessagePage(Page):
    """Some messages that were answered."""

    data: list[dict[str, Any]]


class SessionTold(Told):
    """A conversation that the node remembers; messages as chat completions has them."""

    id: str
    object: Literal["session"]
    created_at: int
    expires_at: int
    messages: list[dict[str, Any]]


class FileTold(Told):
    """A file; times in seconds since 1970."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None


class FilePage(Page):
    """Some files."""

    data: list[FileTold]


class BatchFault(Told):
    """What is wrong with a batch as a whole, and in which line."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchFaults(Told):
    """All of it."""

    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(Told):
    """Lines of a batch."""

    total: int
    completed: int
    failed: int


class BatchUsage(Told):
    """Tokens of all lines so far."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class BatchTold(Told):
    """A batch; its files are named once they are whole. Times in seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchPage(Page):
    """Some batches."""

    data: list[BatchTold]
