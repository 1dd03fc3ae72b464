"""What is kept of a response, as OpenAI's API shows it: the object, its input items, a page of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from meshnode.api.fields import invalid
from meshnode.api.render import Heading
from meshnode.api.responses.render import PREFIX, ResponseRenderer
from meshnode.errors import Cancelled, InvalidField
from meshnode.events import Started
from meshnode.gateway.job import Job, JobStatus

DIALECT: Final = "response"
"""What a kept answer remembers this dialect by."""
MOST_ON_A_PAGE: Final = 100
_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "cto_",
    "reasoning": "rs_",
}


class Paging(NamedTuple):
    """Which part of a list is asked for."""

    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"


def renderer_of(job: Job, *, encrypted: bool = False) -> ResponseRenderer:
    """A renderer for the job's events, told none of them yet; ``encrypted``: reasoning comes sealed as well."""
    echo = json.loads(job.echo)
    if encrypted:
        echo["encrypted"] = True
    return ResponseRenderer(Heading(job.id, job.created, job.model or job.request.model, ""), echo=echo)


def response_of(job: Job, *, encrypted: bool = False) -> dict[str, Any]:
    """The response as it stands."""
    renderer = renderer_of(job, encrypted=encrypted)
    for event in job.events:
        renderer.collect(event)
    if job.status is JobStatus.IN_PROGRESS:
        renderer.collect(Started(0))
    if job.status is JobStatus.CANCELLED:
        renderer.failed(Cancelled("it was cancelled."))
    response = renderer.whole()
    if response["status"] == "cancelled":
        response["error"] = None  # a stream has to say why it ends; here the status does
    if response["status"] == "completed" and job.background:
        response["completed_at"] = job.ended
    return response


def input_items(job: Job) -> list[dict[str, Any]]:
    """The items that the request itself brought, as the API lists them; without those of an earlier response."""
    stem = job.id.removeprefix(PREFIX)
    return [_listed(item, stem, number) for number, item in enumerate(json.loads(job.echo).get("input", ()))]


def _listed(item: Mapping[str, Any], stem: str, number: int) -> dict[str, Any]:
    kind = item.get("type") or "message"
    status = item.get("status") or "completed"
    id_ = item.get("id") or f"{_PREFIXES.get(kind, 'item_')}{stem}_in{number}"
    listed = {**item, "type": kind, "id": id_, "status": status}
    if kind == "message":
        listed["content"] = _content(item["content"], said=item["role"] == "assistant")
    elif kind == "reasoning":
        listed["summary"] = item.get("summary") or []
    return listed


def _content(content: str | Sequence[Mapping[str, Any]], *, said: bool) -> list[dict[str, Any]]:
    """Parts as the API lists them: what an assistant said is output, all else is input."""
    parts = [{"text": content}] if isinstance(content, str) else content
    return [
        dict(part)
        if part.get("type") == "refusal"
        else {"type": "output_text", "text": part["text"], "annotations": [], "logprobs": []}
        if said
        else {"type": "input_text", "text": part["text"]}
        for part in parts
    ]


def paging(query: Mapping[str, str]) -> Paging:
    """What a query asks for. Raises InvalidField."""
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST_ON_A_PAGE):
        raise invalid("limit", limit, f"a whole number from 1 to {MOST_ON_A_PAGE}")
    if order not in ("asc", "desc"):
        raise invalid("order", order, "asc or desc")
    return Paging(query.get("after"), int(limit), order)  # type: ignore[arg-type]  # one of the two words


def page(items: Sequence[dict[str, Any]], asked: Paging) -> dict[str, Any]:
    """That part of the list, in OpenAI's shape. Raises InvalidField where there is no item to come after."""
    ordered = list(items) if asked.order == "asc" else list(reversed(items))
    begin = 0
    if asked.after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == asked.after]
        if not places:
            raise InvalidField("after: there is no item of this id.", param="after")
        begin = places[0] + 1
    found = ordered[begin : begin + asked.limit]
    return {
        "object": "list",
        "data": found,
        "first_id": found[0]["id"] if found else "",
        "last_id": found[-1]["id"] if found else "",
        "has_more": begin + asked.limit < len(ordered),
    }
