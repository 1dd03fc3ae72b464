"""What nobody expected, as an error of the tree.

It is logged by type and place, never by its text: an exception's text may quote a prompt.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath

import structlog

from meshnode.causes import leaves, ours
from meshnode.errors import DeadlineExceeded, InternalFault, MeshnodeError

_log = structlog.get_logger()


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


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-4:]]
    return " < ".join([type(error).__name__, *reversed(places)])
