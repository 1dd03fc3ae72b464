"""``/api/templates…``, for the owner, and requests that are made from one."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from quart import Blueprint, request

from meshnode.api.admin import administrators_only, fields_of
from meshnode.api.context import ApiContext
from meshnode.api.fields import check_names, convert, invalid, text, unsupported
from meshnode.api.schema import Ask
from meshnode.api.template_schema import NAME, NAMES
from meshnode.domain import Message, Role, TextPart
from meshnode.gateway.templates import filled, placeholders
from meshnode.storage.templates import PromptTemplate

MOST_MESSAGES: Final = 256


class TemplateFields(msgspec.Struct, kw_only=True):
    """``POST /api/templates/{id}``."""

    messages: Annotated[
        list[dict[str, Any]],
        msgspec.Meta(
            min_length=1, max_length=MOST_MESSAGES, description=f"an array of 1 to {MOST_MESSAGES} messages of text"
        ),
    ]


class TurnFields(msgspec.Struct, kw_only=True):
    """One message of a template."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, text(1 << 20)]


def templates(context: ApiContext) -> Blueprint:
    """The endpoints, for administrators only."""
    routes = Blueprint("templates", __name__)
    routes.before_request(administrators_only)

    @routes.get("/api/templates")
    async def listing() -> dict[str, Any]:
        """The newest version of each, without its text."""
        return {"templates": [_head(one) for one in await context.templates.newest()]}

    @routes.post("/api/templates/<name>")
    async def add(name: str) -> dict[str, Any]:
        """A new version. Raises InvalidField or Conflict."""
        fields = await fields_of(TemplateFields)
        if not NAME.fullmatch(name):
            raise invalid("id", name, NAMES)
        said = tuple(_turn(raw, f"messages[{index}]") for index, raw in enumerate(fields.messages))
        return _head(await context.templates.add(name, said))

    @routes.get("/api/templates/<name>")
    async def one(name: str) -> dict[str, Any]:
        """One version with its text: ``?version=``, else the newest. Raises NotFound."""
        asked = request.args.get("version")
        if asked is not None and not (asked.isascii() and asked.isdigit() and len(asked) <= 9):
            raise invalid("version", asked, "the number of a version")
        found = await context.templates.get(name, None if asked is None else int(asked))
        turns = [{"role": turn.role.value, "content": _text(turn)} for turn in found.messages]
        return _head(found) | {"messages": turns}

    @routes.delete("/api/templates/<name>")
    async def remove(name: str) -> dict[str, Any]:
        """Forget all its versions; their numbers are not given again. Raises NotFound."""
        return {"id": name, "deleted": True, "versions": await context.templates.delete(name)}

    return routes


async def expanded(context: ApiContext, ask: Ask) -> Ask:
    """The request with the messages of its template before its own. Raises NotFound or InvalidField."""
    use = ask.keep.template
    if use is None:
        return ask
    if ask.request.prompt is not None or ask.request.inputs:
        raise unsupported("template", "A template is made of messages: use a chat endpoint.", what=" here")
    template = await context.templates.get(use.id, use.version)
    messages = (*filled(template.messages, use.variables), *ask.request.messages)
    return ask._replace(request=msgspec.structs.replace(ask.request, messages=messages))


def _turn(raw: dict[str, Any], path: str) -> Message:
    check_names(raw, TurnFields, {}, path=path)
    fields = convert(raw, TurnFields, path=path)
    return Message(role=Role(fields.role), parts=(TextPart(fields.content),))


def _head(template: PromptTemplate) -> dict[str, Any]:
    return {
        "id": template.id,
        "version": template.version,
        "created_at": template.created,
        "variables": list(placeholders(template.messages)),
    }


def _text(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))
