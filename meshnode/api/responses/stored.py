"""What is kept of a response, as OpenAI's API shows it: the object, its input items. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from meshnode.api.render import Heading
from meshnode.api.responses.render import PREFIX, ResponseRenderer
from meshnode.errors import Cancelled
from meshnode.events import Started
from meshnode.gateway.job import Job, JobStatus

DIALECT: Final = "response"
"""What a kept answer remembers this dialect by."""
_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "cto_",
    "reasoning": "rs_",
}


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
