"""``/api/history``: how much the node keeps of what people asked and were answered, and that it can be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import Blueprint

from meshnode.api.admin import administrators_only
from meshnode.api.context import ApiContext


def history(context: ApiContext) -> Blueprint:
    """The endpoints, for administrators only."""
    routes = Blueprint("history", __name__)
    routes.before_request(administrators_only)

    @routes.get("/api/history")
    async def counts() -> dict[str, Any]:
        """How many objects of each kind are kept, everybody's."""
        return _told(context, await context.history.counts())

    @routes.delete("/api/history")
    async def clear() -> dict[str, Any]:
        """Stop what is under way and forget everything of everybody; gives what there was."""
        return _told(context, await context.history.clear())

    return routes


def _told(context: ApiContext, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"enabled": context.jobs.keeps, "kept": dict(counts)}
