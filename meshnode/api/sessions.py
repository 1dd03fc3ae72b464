"""``session_id`` with ``store``: the node remembers the conversation; ``/v1/sessions/{id}`` shows and forgets it."""

from __future__ import annotations

from typing import Any

import msgspec
from quart import Blueprint

from meshnode.api.asgi import caller
from meshnode.api.context import ApiContext
from meshnode.api.schema import Ask
from meshnode.domain import Message, ReasoningPart, RefusalPart, TextPart
from meshnode.gateway.principal import Principal
from meshnode.gateway.sessions import KIND, Sessions
from meshnode.storage.vault import absent


async def in_session(context: ApiContext, asker: Principal, ask: Ask) -> Ask:
    """The request with what went before it, where it is to be remembered. Raises InvalidField."""
    name = ask.request.session
    if context.sessions is None or name is None or not ask.keep.store:
        return ask
    messages = await context.sessions.continued(asker.caller, name, ask.request.messages)
    request = msgspec.structs.replace(ask.request, messages=messages)
    return ask._replace(request=request, keep=ask.keep._replace(in_session=True))


def sessions(context: ApiContext) -> Blueprint:
    """The endpoints."""
    routes = Blueprint("sessions", __name__)

    @routes.get("/v1/sessions/<path:id_>")
    async def one(id_: str) -> dict[str, Any]:
        """What the node remembers of it, as chat completions has messages."""
        found = await _of(context, id_).session(caller(), id_)
        return {
            "id": id_,
            "object": "session",
            "created_at": found.created,
            "expires_at": found.expires,
            "messages": [shown(message) for message in found.messages],
        }

    @routes.delete("/v1/sessions/<path:id_>")
    async def delete(id_: str) -> dict[str, Any]:
        """Forget it; answers that were stored on the way stay."""
        await _of(context, id_).delete(caller(), id_)
        return {"id": id_, "object": "session.deleted", "deleted": True}

    return routes


def shown(message: Message) -> dict[str, Any]:
    """A message of text as a chat request could hold it."""
    told: dict[str, Any] = {"role": message.role.value, "content": _text(message, TextPart)}
    optional = {
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": _text(message, ReasoningPart),
        "refusal": _text(message, RefusalPart),
        "tool_calls": [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ],
    }
    return told | {name: value for name, value in optional.items() if value}


def _text(message: Message, kind: type[TextPart | ReasoningPart | RefusalPart]) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, kind))


def _of(context: ApiContext, id_: str) -> Sessions:
    """The sessions. Raises NotFound where nothing is kept."""
    if context.sessions is None:
        raise absent(KIND, id_)
    return context.sessions
