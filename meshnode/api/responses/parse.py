"""A Responses request → the domain's, with what its answer repeats. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from meshnode.api.constraint_schema import constraint
from meshnode.api.fields import Refusal, check_names, convert, invalid
from meshnode.api.responses.form import Form, form
from meshnode.api.responses.items import messages
from meshnode.api.responses.schema import (
    COUNT_REFUSALS,
    OF_CHAT,
    REFUSALS,
    PromptFields,
    ReasoningFields,
    ResponseFields,
)
from meshnode.api.responses.shape import shown
from meshnode.api.responses.tooling import Offer, choice, offer
from meshnode.api.schema import Ask, Asker, Keep, StreamOptions, TemplateUse, ask, common, stopping
from meshnode.api.strictjson import parse_object
from meshnode.api.template_schema import template_use
from meshnode.api.transforms import MIDDLE_OUT, transforms
from meshnode.domain import Constraint, GenerationRequest, Kind, Message, Role, TextPart
from meshnode.errors import InvalidField, UnknownField


def parse_response(body: bytes, asker: Asker) -> Ask:
    """A Responses request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    return _parse(body, asker, REFUSALS)


def parse_count(body: bytes, asker: Asker) -> Ask:
    """A request to ``input_tokens``: as one to answer, of which only the prompt counts."""
    asked = _parse(body, asker, COUNT_REFUSALS)
    request = msgspec.structs.replace(asked.request, kind=Kind.COUNT)
    return asked._replace(request=request, stream=False, keep=Keep(template=asked.keep.template))


def _parse(body: bytes, asker: Asker, refusals: Mapping[str, Refusal]) -> Ask:
    raw = parse_object(body)
    for name in OF_CHAT.keys() & raw.keys():
        raise UnknownField(f"{name} is not a documented field.", hint=OF_CHAT[name], param=name)
    check_names(raw, ResponseFields, refusals)
    fields = convert(raw, ResponseFields)
    if isinstance(raw.get("stream_options"), dict):
        check_names(raw["stream_options"], StreamOptions, {}, path="stream_options")
    offered, asked_form = offer(fields.tools or ()), form(fields.text)
    request = _request(fields, asker, offered, asked_form)
    echo = {
        "response": shown(fields, request, offered, asked_form.shown),
        "calls": offered.telling(),
        "encrypted": "reasoning.encrypted_content" in (fields.include or ()),
        "input": items(fields),
        "own": len(request.messages) - (fields.instructions is not None),
        "asked_to_store": fields.store,
    }
    return ask(fields, request)._replace(echo=echo, keep=_keep(fields))


def _request(fields: ResponseFields, asker: Asker, offered: Offer, asked: Form) -> GenerationRequest:
    chosen = choice(fields.tool_choice, offered)
    held = _constraint(fields, asked)
    shared = common(fields, asker) | {"stopping": stopping(fields, fields.max_output_tokens)}
    return GenerationRequest(
        **shared,
        tools=offered.tools,
        tool_choice=chosen,
        parallel_tool_calls=fields.parallel_tool_calls is not False,
        constraint=held,
        top_logprobs=_top_logprobs(fields),
        messages=_messages(fields),
        transforms=_transforms(fields),
        reasoning_effort=_effort(fields),
        template_kwargs=json.dumps(fields.chat_template_kwargs or {}, ensure_ascii=False),
    )


def _messages(fields: ResponseFields) -> tuple[Message, ...]:
    """Instructions, then the items; references to what is kept wait for that to be fetched."""
    said = items(fields)
    if not said and fields.previous_response_id is None and fields.prompt is None and fields.template is None:
        missing = "is missing" if fields.input is None else "is empty"
        raise InvalidField(f"input {missing}.", hint="Allowed: a string, or an array of items.", param="input")
    own = () if refers(said) else messages(said)
    if fields.instructions is None:
        return own
    return (Message(role=Role.SYSTEM, parts=(TextPart(fields.instructions),)), *own)


def refers(said: list[dict[str, Any]]) -> bool:
    """Whether one of the items stands for another that is kept."""
    return any(item.get("type") == "item_reference" for item in said)


def items(fields: ResponseFields) -> list[dict[str, Any]]:
    """``input`` as items."""
    if isinstance(fields.input, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": fields.input}]}]
    return [_referring(item) for item in fields.input or ()]


def _referring(item: dict[str, Any]) -> dict[str, Any]:
    """A bare id is a reference, as the SDK's types allow."""
    return {"type": "item_reference", **item} if item.keys() == {"id"} else item


def _constraint(fields: ResponseFields, asked: Form) -> Constraint | None:
    other = constraint(fields)
    if asked.constraint is not None and other is not None:
        raise InvalidField(
            "text.format and another field both constrain the answer.", hint="Send one of them.", param="text.format"
        )
    return asked.constraint or other


def _top_logprobs(fields: ResponseFields) -> int | None:
    """Logprobs are told where ``include`` names them, or where alternatives are asked for."""
    if "message.output_text.logprobs" in (fields.include or ()) or fields.top_logprobs:
        return fields.top_logprobs or 0
    return None


def _transforms(fields: ResponseFields) -> tuple[str, ...]:
    """OpenAI's ``truncation`` drops from the front; here the middle goes first, as what an agent began with matters."""
    named = transforms(fields.transforms, fields.plugins)
    return (*named, MIDDLE_OUT) if fields.truncation == "auto" and MIDDLE_OUT not in named else named


def _effort(fields: ResponseFields) -> str | None:
    if fields.reasoning is None:
        return None
    check_names(fields.reasoning, ReasoningFields, {}, path="reasoning")
    return convert(fields.reasoning, ReasoningFields, path="reasoning").effort


def _keep(fields: ResponseFields) -> Keep:
    """OpenAI keeps an answer unless it is told not to; one in the background has to be kept."""
    background = fields.background is True or fields.async_mode is True
    if background and fields.store is False:
        raise InvalidField("background needs store.", hint="Leave store out, or set it to true.", param="store")
    use = template_use(fields.template, fields.variables)
    if use is not None and fields.prompt is not None:
        raise InvalidField("template and prompt both name a stored prompt.", hint="Send one of them.", param="template")
    return Keep(store=fields.store is not False, background=background, template=use or _template(fields.prompt))


def _template(raw: Mapping[str, Any] | None) -> TemplateUse | None:
    """OpenAI's name for a stored prompt."""
    if raw is None:
        return None
    check_names(raw, PromptFields, {}, path="prompt")
    fields = convert(raw, PromptFields, path="prompt")
    if fields.version is not None and not re.fullmatch(r"[1-9][0-9]{0,8}", fields.version):
        raise invalid("prompt.version", fields.version, "the number of a version, as a string")
    variables = {name: _variable(value) for name, value in (fields.variables or {}).items()}
    return TemplateUse(fields.id, None if fields.version is None else int(fields.version), variables)


def _variable(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value.get("type") == "input_text" and isinstance(value.get("text"), str):
        return str(value["text"])
    raise invalid("prompt.variables", value, "an object of strings, or of parts of type input_text")
