"""``/v1/jobs…``: answers that are fetched later, whatever dialect they were asked for in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from quart import Blueprint, request

from meshnode.api.asgi import caller
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect, Pending
from meshnode.api.kept import whole
from meshnode.api.paging import MOST, Order, listed, paging
from meshnode.api.render import Heading
from meshnode.api.schema import Ask
from meshnode.events import Failed, error_of
from meshnode.gateway.job import Job, JobStatus


def jobs(context: ApiContext, dialects: Mapping[str, Dialect]) -> Blueprint:
    """The endpoints; ``dialects`` by name."""
    routes = Blueprint("jobs", __name__)

    @routes.get("/v1/jobs")
    async def listing() -> dict[str, Any]:
        """The caller's jobs without their answers, newest first."""
        return await found(context, lambda job: job.background, shown)

    @routes.get("/v1/jobs/<id_>")
    async def one(id_: str) -> dict[str, Any]:
        """A job; once it is over, with its answer or its error as its dialect has them."""
        return told(context, dialects, await context.jobs.job(caller(), id_))

    @routes.post("/v1/jobs/<id_>/cancel")
    async def cancel(id_: str) -> dict[str, Any]:
        """Stop it; one that is over stays as it is."""
        return told(context, dialects, await context.jobs.cancel(caller(), id_))

    @routes.delete("/v1/jobs/<id_>")
    async def delete(id_: str) -> dict[str, Any]:
        """Stop and forget it."""
        await context.jobs.delete(caller(), id_)
        return {"id": id_, "object": "job.deleted", "deleted": True}

    return routes


async def found(
    context: ApiContext, wanted: Callable[[Job], bool], told: Callable[[Job], dict[str, Any]], usual: Order = "desc"
) -> dict[str, Any]:
    """A page of the caller's jobs of a kind, as the query asks for it. Raises InvalidField, NotFound.

    What a job is told as is all that is held of it: requests may be large.
    """
    who, asked = caller(), paging(request.args, usual)
    data: list[dict[str, Any]] = []
    after = asked.after
    while True:
        page = await context.jobs.jobs(who, after=after, limit=MOST, newest_first=asked.newest_first)
        for job in filter(wanted, page.jobs):
            if len(data) == asked.limit:
                return listed(data, more=True)
            data.append(told(job))
        if not page.more:
            return listed(data, more=False)
        after = page.last


def shown(job: Job) -> dict[str, Any]:
    """A job without its answer."""
    here = f"/v1/jobs/{quote(job.id, safe='')}"
    return {
        "id": job.id,
        "object": "job",
        "status": job.status.value,
        "created_at": job.created,
        "ended_at": job.ended,
        "dialect": job.dialect,
        "model": job.model or job.request.model or None,
        "links": {"self": here, "cancel": f"{here}/cancel"},
    }


def pending(_heading: Heading, _ask: Ask, job: Job) -> Pending:
    """What is said at once of a job, where its dialect has no words of its own."""
    return Pending(202, shown(job))


def told(context: ApiContext, dialects: Mapping[str, Dialect], job: Job) -> dict[str, Any]:
    """A job with its answer, or its error, as far as there is one."""
    dialect = dialects.get(job.dialect)
    result = whole(context, dialect, job) if dialect is not None and job.status is JobStatus.COMPLETED else None
    return shown(job) | {"result": result, "error": _error(dialect, job)}


def _error(dialect: Dialect | None, job: Job) -> object:
    last = job.events[-1] if job.events else None
    if dialect is None or not isinstance(last, Failed):
        return None
    return dialect.voice.envelope(error_of(last), job.request.id)["error"]
