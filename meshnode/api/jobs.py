"""``/v1/jobs…``: answers that are fetched later, whatever dialect they were asked for in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from quart import Blueprint, request

from meshnode.api.asgi import current
from meshnode.api.context import ApiContext
from meshnode.api.dialect import Dialect, Pending
from meshnode.api.fields import invalid
from meshnode.api.kept import whole
from meshnode.api.render import Heading
from meshnode.api.schema import Ask
from meshnode.domain import CallerId
from meshnode.errors import Unauthorized
from meshnode.events import Failed, error_of
from meshnode.gateway.job import Job, JobPage, JobStatus

MOST_LISTED: Final = 100
"""Objects of one page."""


def jobs(context: ApiContext, dialects: Mapping[str, Dialect]) -> Blueprint:
    """The endpoints; ``dialects`` by name."""
    routes = Blueprint("jobs", __name__)

    @routes.get("/v1/jobs")
    async def listing() -> dict[str, Any]:
        """The caller's jobs without their answers, newest first."""
        page = await found(context, lambda job: job.background)
        return listed([shown(job) for job in page.jobs], more=page.more)

    @routes.get("/v1/jobs/<id_>")
    async def one(id_: str) -> dict[str, Any]:
        """A job; once it is over, with its answer or its error as its dialect has them."""
        return told(context, dialects, await context.jobs.job(principal(), id_))

    @routes.post("/v1/jobs/<id_>/cancel")
    async def cancel(id_: str) -> dict[str, Any]:
        """Stop it; one that is over stays as it is."""
        return told(context, dialects, await context.jobs.cancel(principal(), id_))

    @routes.delete("/v1/jobs/<id_>")
    async def delete(id_: str) -> dict[str, Any]:
        """Stop and forget it."""
        await context.jobs.delete(principal(), id_)
        return {"id": id_, "object": "job.deleted", "deleted": True}

    return routes


def principal() -> CallerId:
    """Who asks. Raises Unauthorized."""
    found = current().principal
    if found is None:
        raise Unauthorized("this call asks for a key.")
    return found.caller


def paging(order: str = "desc") -> tuple[str | None, int, bool]:
    """``after``, ``limit`` and whether the ``order`` is newest first, of a list's query. Raises InvalidField."""
    limit, order = request.args.get("limit", "20"), request.args.get("order", order)
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:4]) <= MOST_LISTED or len(limit) > 4:
        raise invalid("limit", limit, f"a number from 1 to {MOST_LISTED}")
    if order not in ("asc", "desc"):
        raise invalid("order", order, "asc or desc")
    return request.args.get("after"), int(limit), order == "desc"


async def found(context: ApiContext, wanted: Callable[[Job], bool], order: str = "desc") -> JobPage:
    """The caller's jobs of a kind, as many as the query asks for. Raises InvalidField, NotFound."""
    who = principal()
    after, limit, newest_first = paging(order)
    jobs: list[Job] = []
    while True:
        page = await context.jobs.jobs(who, after=after, limit=MOST_LISTED, newest_first=newest_first)
        jobs += filter(wanted, page.jobs)
        if len(jobs) > limit or not page.more:
            return JobPage(tuple(jobs[:limit]), len(jobs) > limit)
        after = page.last


def listed(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of a list in OpenAI's shape."""
    ids = [entry["id"] for entry in data]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


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
