"""``/v1/chat/completions`` of answers that were asked to be stored: listed, had again, annotated, forgotten.

Source: OpenAI's API reference for stored chat completions.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from quart import Blueprint, request

from meshnode.api.admin import fields_of
from meshnode.api.asgi import caller
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect
from meshnode.api.fields import text
from meshnode.api.jobs import found
from meshnode.api.kept import whole
from meshnode.api.paging import page, paging
from meshnode.api.sessions import shown
from meshnode.domain import Message
from meshnode.errors import NotFound
from meshnode.gateway.job import Job, JobStatus
from meshnode.storage.vault import absent

MOST_METADATA: Final = 16
_ASKED_METADATA: Final = re.compile(r"metadata\[(.{1,64})\]")
Metadata = Annotated[
    dict[str, Annotated[str, text(512)]],
    msgspec.Meta(
        max_length=MOST_METADATA,
        description=f"an object of at most {MOST_METADATA} texts, each of up to 512 characters",
    ),
]


class StoredFields(msgspec.Struct, kw_only=True):
    """``POST /v1/chat/completions/{id}``: what can be changed of a stored answer."""

    metadata: Metadata | None


def stored_chats(context: ApiContext, chat: Dialect) -> Blueprint:
    """The endpoints."""
    routes = Blueprint("stored_chats", __name__)

    @routes.get("/v1/chat/completions")
    async def listing() -> dict[str, Any]:
        """The caller's, oldest first unless the query says otherwise, of one ``model`` or with some ``metadata``."""
        return await found(
            context, lambda job: _is_one(chat, job) and _asked_for(job), partial(_told, context, chat), "asc"
        )

    @routes.get("/v1/chat/completions/<id_>")
    async def one(id_: str) -> dict[str, Any]:
        """The answer as it was given."""
        return _told(context, chat, await _stored(context, chat, id_))

    @routes.post("/v1/chat/completions/<id_>")
    async def annotate(id_: str) -> dict[str, Any]:
        """Put other metadata in the place of what it has."""
        fields = await fields_of(StoredFields)
        job = await _stored(context, chat, id_)
        echo = msgspec.json.decode(job.echo) | {"metadata": fields.metadata or {}}
        job = msgspec.structs.replace(job, echo=msgspec.json.encode(echo).decode())
        await context.jobs.change(job)
        return _told(context, chat, job)

    @routes.delete("/v1/chat/completions/<id_>")
    async def delete(id_: str) -> dict[str, Any]:
        """Forget it."""
        await _stored(context, chat, id_)
        await context.jobs.delete(caller(), id_)
        return {"id": id_, "object": "chat.completion.deleted", "deleted": True}

    _messages(routes, context, chat)
    return routes


def _messages(routes: Blueprint, context: ApiContext, chat: Dialect) -> None:
    @routes.get("/v1/chat/completions/<id_>/messages")
    async def messages(id_: str) -> dict[str, Any]:
        """The messages that were answered, oldest first unless the query says otherwise."""
        job = await _stored(context, chat, id_)
        data = [_message(job, number, message) for number, message in enumerate(job.request.messages)]
        return page(data, paging(request.args, "asc"))


async def _stored(context: ApiContext, chat: Dialect, id_: str) -> Job:
    """The stored answer of that id. Raises NotFound."""
    try:
        job = await context.jobs.job(caller(), id_)
    except NotFound:
        raise absent("chat completion", id_) from None
    if not _is_one(chat, job):
        raise absent("chat completion", id_)
    return job


def _is_one(chat: Dialect, job: Job) -> bool:
    return job.dialect == chat.name and job.status is JobStatus.COMPLETED


def _asked_for(job: Job) -> bool:
    """Whether the query's filters let it through."""
    model = request.args.get("model")
    metadata = _metadata(job)
    wanted = {key[1]: value for name, value in request.args.items() if (key := _ASKED_METADATA.fullmatch(name))}
    named = model is None or model in (job.model, job.request.model)
    return named and all(metadata.get(key) == value for key, value in wanted.items())


def _metadata(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(job.echo).get("metadata") or {}
    return found


def _told(context: ApiContext, chat: Dialect, job: Job) -> dict[str, Any]:
    return whole(context, chat, job) | {"metadata": _metadata(job)}


def _message(job: Job, number: int, message: Message) -> dict[str, Any]:
    return {"id": f"{job.id}-{number}", **shown(message)}
