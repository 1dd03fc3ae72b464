"""The error tree as clients read it: envelope, status, and the headers that say whether to try again. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from meshnode.errors import (
    ContextLengthExceeded,
    DamagedDatabase,
    DiskFull,
    Draining,
    HomeUnusable,
    MeshnodeError,
    ModelFileRefused,
    ModelLoading,
    Overloaded,
    OwnerError,
    RateLimited,
    Unauthorized,
    Unreachable,
    WorkerDied,
)
from meshnode.gateway.faults import as_error as as_error

MAX_RETRY_AFTER_S: Final = 120.0
"""OpenAI's clients ignore a longer wait and guess their own."""

_RETRY_AFTER_S: Final[Mapping[type[MeshnodeError], float]] = {
    Overloaded: 1.0,
    ModelLoading: 2.0,
    Draining: 2.0,
    WorkerDied: 1.0,
    Unreachable: 1.0,
    RateLimited: 5.0,
}
"""Errors that pass by themselves, and how soon to try again unless the error knows better."""
_ANTHROPIC: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's error types by status (its API reference, "Errors")."""
_TROUBLE: Final = "this node is in trouble."
_OF_OWNERS: Final[Mapping[type[MeshnodeError], str]] = {
    DiskFull: "this node's disk is full.",
    DamagedDatabase: "this node's database is damaged.",
    HomeUnusable: "this node cannot write to its disk.",
    ModelFileRefused: "this node cannot use the model's file.",
}
_PROMPT: Final = re.compile(r"(\d+) tokens.*?context here is (\d+)|context of (\d+) tokens.*?about (\d+)", re.DOTALL)


def envelope(error: MeshnodeError, *, owner: bool = False) -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``; ``owner``: who reads it may know where things lie here."""
    message = str(error) if owner else told(error)
    return {"error": {"message": message, "type": _type(error), "param": error.param, "code": error.code}}


def anthropic(error: MeshnodeError, request_id: str | None = None) -> dict[str, Any]:
    """Anthropic's ``{"type": "error", "error": {type, message}, request_id}``.

    A prompt that does not fit is told in that API's own words, by which coding agents know to shorten a conversation.
    """
    kind = _ANTHROPIC.get(error.status)
    if kind is None:
        kind = "invalid_request_error" if error.status < 500 else "api_error"
    message = _too_long(error) if isinstance(error, ContextLengthExceeded) else told(error)
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id or None}


def told(error: MeshnodeError) -> str:
    """What is said of an error to anybody: what only the owner can mend names paths, so that its kind must do."""
    if isinstance(error, OwnerError):
        return f"{_OF_OWNERS.get(type(error), _TROUBLE)} Its owner can mend that."
    return str(error)


def _too_long(error: ContextLengthExceeded) -> str:
    """``prompt is too long: N tokens > M maximum``, where the error has both numbers."""
    found = _PROMPT.search(error.message)
    if found is None:
        return str(error)
    length, most = int(found[1] or found[4]), int(found[2] or found[3])
    # The context holds the answer too, so a prompt of its very length is too long by the answer's first token.
    return f"prompt is too long: {length} tokens > {min(most, length - 1)} maximum. {error.hint}".strip()


def headers(error: MeshnodeError) -> dict[str, str]:
    """``Retry-After`` (at most 120 s), ``retry-after-ms`` and ``x-should-retry``; ``WWW-Authenticate`` on 401."""
    wait = error.retry_after_s
    if wait is None:
        wait = _RETRY_AFTER_S.get(type(error))
    found = {"x-should-retry": "false" if wait is None else "true"}
    if wait is not None:
        wait = min(max(wait, 0.0), MAX_RETRY_AFTER_S)
        found |= {"Retry-After": str(max(1, round(wait))), "retry-after-ms": str(round(wait * 1000))}
    if isinstance(error, Unauthorized):
        found["WWW-Authenticate"] = "Bearer"
    return found


def retry_after(code: str) -> float | None:
    """How many seconds after an error of this code trying again may help, unless the error knows better."""
    return next((wait for kind, wait in _RETRY_AFTER_S.items() if kind.code == code), None)


def _type(error: MeshnodeError) -> str:
    if error.status == 401:
        return "authentication_error"
    if error.status == 403:
        return "permission_error"
    if error.status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if error.status < 500 else "server_error"
