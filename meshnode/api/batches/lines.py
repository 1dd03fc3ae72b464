"""A line of a batch's input file ⇄ the domain, and the rows of its output and error files. Pure.

Source: OpenAI's guide to the Batch API and its reference ("The request input object", "The request output object").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from meshnode.api import sse
from meshnode.api.dialect import Dialect
from meshnode.api.fields import check_names, convert, invalid, unsupported
from meshnode.api.schema import Ask, Asker
from meshnode.api.strictjson import parse_object
from meshnode.domain import CallerId, RequestId
from meshnode.errors import MalformedBody, MeshnodeError

MOST_CUSTOM_ID: Final = 512
LATE: Final = "This request could not be executed before the completion window expired."
"""What OpenAI says of it."""

CustomId = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=MOST_CUSTOM_ID, description=f"a string of 1 to {MOST_CUSTOM_ID} characters"),
]


class LineFields(msgspec.Struct, kw_only=True):
    """One request of an input file."""

    custom_id: CustomId
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class Wanted(NamedTuple):
    """A line that was read: what to answer, under which name."""

    custom_id: str
    ask: Ask


class Unusable(NamedTuple):
    """A line that cannot be answered; ``custom_id`` where it has one."""

    custom_id: str | None
    error: MeshnodeError


def parse_line(line: bytes, asker: Asker, *, endpoint: str, dialect: Dialect) -> Wanted | Unusable:
    """What a line asks of its batch's endpoint."""
    custom_id: str | None = None
    try:
        raw = _object(line)
        custom_id = _custom_id(raw)
        check_names(raw, LineFields, {})
        fields = convert(raw, LineFields)
        if fields.url != endpoint:
            raise invalid("url", fields.url, f'"{endpoint}", the endpoint of the batch')
        ask = dialect.parse(json.dumps(fields.body, ensure_ascii=False).encode(), asker)
        if ask.stream:
            raise invalid("stream", True, "false in a batch")
        if ask.keep.background:
            raise unsupported("background", what=" in a batch")
    except MeshnodeError as error:
        return Unusable(custom_id, error)
    return Wanted(fields.custom_id, ask)


def _object(line: bytes) -> dict[str, Any]:
    try:
        return parse_object(line)
    except MalformedBody as error:
        raise MalformedBody(error.message.replace("the body", "the line"), hint=error.hint) from None


def _custom_id(raw: Mapping[str, Any]) -> str | None:
    """The name of a line, however wrong the rest of it is."""
    found = raw.get("custom_id")
    return found if isinstance(found, str) and 1 <= len(found) <= MOST_CUSTOM_ID else None


def asker_of(batch: str, number: int, caller: CallerId) -> Asker:
    """Who asks by a line of a batch."""
    return Asker(RequestId(f"{batch}-{number}"), caller)


# --- rows -----------------------------------------------------------------------------------------


def answered_row(request_id: RequestId, custom_id: str, body: Mapping[str, Any]) -> bytes:
    """The row of a line that was answered."""
    response = {"status_code": 200, "request_id": request_id, "body": body}
    return _row(request_id, custom_id, response, None)


def refused_row(request_id: RequestId, custom_id: str, status: int, envelope: Mapping[str, Any]) -> bytes:
    """The row of a line that was answered with an error, which its dialect put into an envelope."""
    response = {"status_code": status, "request_id": request_id, "body": envelope}
    return _row(request_id, custom_id, response, None)


def unnamed_row(request_id: RequestId, number: int, error: MeshnodeError) -> bytes:
    """The row of a line that says too little to be called a request."""
    return _row(request_id, None, None, {"code": error.code, "message": f"Line {number}: {error}"})


def late_row(request_id: RequestId, custom_id: str) -> bytes:
    """The row of a line that was not answered in the batch's window."""
    return _row(request_id, custom_id, None, {"code": "batch_expired", "message": LATE})


def _row(
    request_id: RequestId, custom_id: str | None, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None
) -> bytes:
    id_ = "batch_req_" + request_id.removeprefix("batch_")
    return sse.encode({"id": id_, "custom_id": custom_id, "response": response, "error": error}) + b"\n"
