"""``/v1/responses/{id}…``: what is kept of a response. Another principal's is not there, as one that never was."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from quart import Blueprint, Response, request

from meshnode.api.asgi import caller, current
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect, Pending
from meshnode.api.fields import invalid
from meshnode.api.kept import follow_job
from meshnode.api.paging import page, paging
from meshnode.api.render import Heading
from meshnode.api.responses.count import CountRenderer
from meshnode.api.responses.earlier import prepare
from meshnode.api.responses.parse import parse_count, parse_response
from meshnode.api.responses.render import PREFIX, Later, ResponseRenderer
from meshnode.api.responses.schema import INCLUDABLE
from meshnode.api.responses.stored import DIALECT, input_items, renderer_of, response_of
from meshnode.api.schema import Ask
from meshnode.api.stream import EVENT_STREAM, STREAM_HEADERS, EventStream
from meshnode.api.voice import RESPONSES
from meshnode.domain import RequestId
from meshnode.errors import InvalidField, NotFound, UnknownField
from meshnode.gateway.job import Job


def _pending(_heading: Heading, _ask: Ask, job: Job) -> Pending:
    """One in the background is told of as it stands, as any other."""
    return Pending(200, response_of(job))


RESPONSE: Final = Dialect(DIALECT, PREFIX, parse_response, ResponseRenderer, RESPONSES, prepare, _pending)
RESPONSE_COUNT: Final = Dialect("input_tokens", PREFIX, parse_count, CountRenderer, RESPONSES, prepare)
_INCLUDE: Final = ("include", "include[]")
_TRUE: Final = {"true": True, "false": False}


def responses(context: ApiContext) -> Blueprint:
    """The endpoints."""
    routes = Blueprint("responses", __name__)

    @routes.get("/v1/responses/<id_>")
    async def one(id_: str) -> Response | dict[str, Any]:
        """The response as it stands, or the stream of one in the background, from its begin or behind a number."""
        job = await _kept(context, id_)
        _check(("stream", "starting_after", "include_obfuscation", *_INCLUDE))
        if _flag("stream"):
            return await _streamed(context, job)
        if "starting_after" in request.args:
            raise InvalidField("starting_after needs stream.", hint="Send stream=true as well.", param="starting_after")
        return response_of(job, encrypted="reasoning.encrypted_content" in _included())

    @routes.delete("/v1/responses/<id_>")
    async def delete(id_: str) -> dict[str, Any]:
        """Stop and forget it."""
        job = await _kept(context, id_)
        await context.jobs.delete(job.principal, job.id)
        return {"id": job.id, "object": "response", "deleted": True}

    @routes.post("/v1/responses/<id_>/cancel")
    async def cancel(id_: str) -> dict[str, Any]:
        """Stop one in the background; one that is over stays as it is."""
        job = _cancellable(await _kept(context, id_))
        return response_of(await context.jobs.cancel(job.principal, job.id))

    @routes.get("/v1/responses/<id_>/input_items")
    async def items(id_: str) -> dict[str, Any]:
        """The items of the request, newest first."""
        job = await _kept(context, id_)
        _check(("after", "limit", "order", *_INCLUDE))
        _included()
        part = page(input_items(job), paging(request.args))
        return part if part["data"] else part | {"first_id": "", "last_id": ""}  # never null in this API

    return routes


async def _kept(context: ApiContext, id_: str) -> Job:
    """The response of that id. Raises NotFound."""
    try:
        job = await context.jobs.job(caller(), id_)
    except NotFound:
        raise _absent()
    if job.dialect != DIALECT:
        raise _absent()
    return job


def _absent() -> NotFound:
    return NotFound(
        "there is no response of this id.",
        hint="It may have been deleted, expired, or made with store: false.",
        param="response_id",
    )


def _cancellable(job: Job) -> Job:
    if not job.background:
        raise InvalidField(
            "only a response in the background can be cancelled.",
            hint="Close the connection of one that is being answered.",
            param="response_id",
        )
    return job


async def _streamed(context: ApiContext, job: Job) -> Response:
    if not job.background:
        raise InvalidField(
            "stream: only a response that was made in the background can be streamed again.",
            hint="Leave it out to get the whole response.",
            param="stream",
        )
    renderer = Later(renderer_of(job), _starting_after())
    handling = current()
    feed = await follow_job(handling.nursery, context, job.principal, job.id)
    request_id = RequestId(handling.request_id)
    body = EventStream(context, feed, renderer, None, request_id, voice=RESPONSES, as_kept=True)
    response = Response(body, content_type=EVENT_STREAM)
    response.headers.update(STREAM_HEADERS)
    response.timeout = None
    return response


def _starting_after() -> int:
    after = request.args.get("starting_after")
    if after is None:
        return -1
    if not (after.isascii() and after.isdigit() and len(after) <= 12):
        raise invalid("starting_after", after, "the number of an event")
    return int(after)


def _flag(name: str) -> bool:
    value = request.args.get(name, "false").lower()
    if value not in _TRUE:
        raise invalid(name, value, "true or false")
    return _TRUE[value]


def _included() -> list[str]:
    """What ``include`` names. Raises InvalidField."""
    names = [name for field in _INCLUDE for name in request.args.getlist(field)]
    stranger = next((name for name in names if name not in INCLUDABLE), None)
    if stranger is not None:
        raise invalid("include", stranger, ", ".join(INCLUDABLE))
    return names


def _check(known: Collection[str]) -> None:
    """Raises UnknownField for a query's field that nobody documents."""
    for name in request.args:
        if name not in known:
            raise UnknownField(f"{name[:64]!r} is not a documented field.", hint="Leave it out.", param=name[:64])
