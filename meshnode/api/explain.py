"""``POST /api/explain``: the plan of a request, with a reason for everybody in it, and nobody asked. For the owner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from quart import Blueprint

from meshnode.api.admin import administrators_only
from meshnode.api.asgi import body_of, current
from meshnode.api.chat_schema import parse_chat
from meshnode.api.completions_schema import parse_completion
from meshnode.api.context import ApiContext
from meshnode.api.embeddings_schema import parse_embedding
from meshnode.api.schema import Ask, Asker
from meshnode.api.strictjson import parse_object
from meshnode.domain import OWNER, GenerationRequest, RequestId
from meshnode.errors import InvalidField

_BY_FIELD: Final[Mapping[str, Callable[[bytes, Asker], Ask]]] = {
    "messages": parse_chat,
    "template": parse_chat,
    "prompt": parse_completion,
    "input": parse_embedding,
}
"""Which endpoint a body is for, by the field that only it has."""


def explain(context: ApiContext) -> Blueprint:
    """The endpoint, for administrators only."""
    routes = Blueprint("explain", __name__)
    routes.before_request(administrators_only)

    @routes.post("/api/explain")
    async def plan() -> dict[str, Any]:
        """The models that would be tried, in order: whom with each, why they stand there, and why others do not."""
        request = explained(await body_of(), RequestId(current().request_id))
        return {"model": request.model or None, "rungs": msgspec.to_builtins(list(context.mesh.explain(request)))}

    return routes


def explained(body: bytes, id_: RequestId) -> GenerationRequest:
    """The request in the body of chat, completions or embeddings. Raises what their parsers raise."""
    raw = parse_object(body)
    for field, parse in _BY_FIELD.items():
        if field in raw:
            return parse(body, Asker(id_, OWNER)).request
    what = "there is nothing to plan: the body has neither messages nor a prompt nor an input."
    raise InvalidField(what, hint="Send the body of a chat, a completion or an embedding.", param="messages")
