"""The error tree as clients read it: envelope, status, and the headers that say whether to try again.

Pure but for :func:`as_error`, which logs what nobody expected by type and place, never by its text: an exception's text
may quote a prompt.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

import structlog

from meshnode.causes import leaves, ours
from meshnode.errors import (
    DeadlineExceeded,
    Draining,
    InternalFault,
    MeshnodeError,
    ModelLoading,
    Overloaded,
    RateLimited,
    Unauthorized,
    Unreachable,
    WorkerDied,
)

MAX_RETRY_AFTER_S: Final = 120.0
"""OpenAI's clients ignore a longer wait and guess their own."""

_log = structlog.get_logger()
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


def envelope(error: MeshnodeError) -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``."""
    return {"error": {"message": str(error), "type": _type(error), "param": error.param, "code": error.code}}


def anthropic(error: MeshnodeError, request_id: str) -> dict[str, Any]:
    """Anthropic's ``{"type": "error", "error": {type, message}, request_id}``."""
    kind = next((kind for status, kind in _ANTHROPIC.items() if error.status == status), None)
    if kind is None:
        kind = "invalid_request_error" if error.status < 500 else "api_error"
    return {"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": request_id}


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


def as_error(error: BaseException, request_id: str) -> MeshnodeError:
    """An error of the tree as it is, or the first inside a group; else an InternalFault, the cause in the log."""
    if (known := ours(error)) is not None:
        return known
    if isinstance(error, TimeoutError):
        return DeadlineExceeded("the request's deadline passed.")
    _log.error("request_crashed", request_id=request_id, crashes=[_place(leaf) for leaf in leaves(error)])
    return InternalFault(
        "meshnode failed inside; this is a defect of it.", hint=f"Its log names the place; request id {request_id}."
    )


def _type(error: MeshnodeError) -> str:
    if error.status == 401:
        return "authentication_error"
    if error.status == 403:
        return "permission_error"
    if error.status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if error.status < 500 else "server_error"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-4:]]
    return " < ".join([type(error).__name__, *reversed(places)])
