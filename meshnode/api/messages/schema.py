"""The bodies of ``POST /v1/messages`` and ``/v1/messages/count_tokens`` ⇄ the domain. Pure.

Source: Anthropic's API reference, "Create a Message" and "Count tokens in a Message", betas that coding agents send
included. Samplers and our own fields are those of :class:`meshnode.api.schema.CommonFields`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from meshnode.api.constraint_schema import constraint
from meshnode.api.fields import Refusal, check_names, convert, integer, text, unsupported
from meshnode.api.messages.blocks import Content
from meshnode.api.messages.conversation import MOST_MESSAGES, Messages, conversation
from meshnode.api.messages.reasons import REFUSED
from meshnode.api.messages.steering import Steering, steering
from meshnode.api.messages.tools import Tools, choice, offer
from meshnode.api.schema import COMMON_REFUSALS, Ask, Asker, CommonFields, Keep, StopList, ask, common, stopping
from meshnode.api.strictjson import parse_object
from meshnode.api.template_schema import Variables, template_use
from meshnode.api.transforms import Plugins, Transforms, transforms
from meshnode.domain import Constraint, GenerationRequest, Kind
from meshnode.errors import InvalidField

CLIENT_SESSION: Final = "x-claude-code-session-id"
"""The header in which Claude Code names its session; ``session_id`` and ``x-session-id`` go before it."""
MOST_SESSION: Final = 256


class UserFields(msgspec.Struct, kw_only=True):
    """``metadata``."""

    user_id: Annotated[str, text(4096)] | None = None


class PromptFields(CommonFields, kw_only=True):
    """What a message and a count have in common: the fields with an effect, then those of ``NO_EFFECT``."""

    messages: Messages | None = None
    system: Content | None = None
    stop_sequences: StopList | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    template: Annotated[str, text(128)] | None = None
    variables: Variables | None = None
    transforms: Transforms | None = None
    plugins: Plugins | None = None

    cache_control: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: Annotated[str, text(256)] | None = None
    workspace_id: Annotated[str, text(256)] | None = None
    betas: list[str] | None = None
    anthropic_version: Annotated[str, text(64)] | None = None


class MessagesFields(PromptFields, kw_only=True):
    """A request for a message; ``max_tokens`` 0 computes the prompt for its cache and answers nothing."""

    max_tokens: Annotated[int, integer(0, 2**31 - 1)]


FieldsT = TypeVar("FieldsT", bound=PromptFields)
_REFUSALS: Final[Mapping[str, Refusal]] = {**COMMON_REFUSALS, **{name: one for name, (one, _) in REFUSED.items()}}


def parse_messages(body: bytes, asker: Asker) -> Ask:
    """A request for a message. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    fields = _fields(body, MessagesFields)
    most = fields.max_tokens
    fields.stop = fields.stop_sequences
    request, echo = _request(fields, asker, {"stopping": stopping(fields, max(1, most))})
    told = {"max_tokens": most, "stop_sequences": fields.stop_sequences or [], **echo}
    asked = ask(fields, request)
    use = template_use(fields.template, fields.variables)
    return asked._replace(echo=told, keep=asked.keep._replace(template=use))


def parse_count(body: bytes, asker: Asker) -> Ask:
    """A request to count a prompt's tokens. Raises as :func:`parse_messages`."""
    fields = _fields(body, PromptFields)
    request, _ = _request(fields, asker, {})
    counted = replace(request, kind=Kind.COUNT, constraint=None, choices=1)
    use = template_use(fields.template, fields.variables)
    return ask(fields, counted)._replace(stream=False, keep=Keep(template=use))


def _fields(body: bytes, kind: type[FieldsT]) -> FieldsT:
    raw = parse_object(body)
    for name, (refusal, reason) in REFUSED.items():
        value = raw.get(name)
        if value is not None and not refusal.neutral(value):
            raise unsupported(name, f"Leave it out: {reason}.")
    check_names(raw, kind, _REFUSALS)
    fields = convert(raw, kind)
    if fields.messages is None and fields.template is None:
        hint = f"Allowed: an array of 1 to {MOST_MESSAGES} messages."
        raise InvalidField("messages is missing.", hint=hint, param="messages")
    if isinstance(raw.get("metadata"), dict):
        check_names(raw["metadata"], UserFields, {}, path="metadata")
        convert(raw["metadata"], UserFields, path="metadata")
    return fields


def _request(fields: PromptFields, asker: Asker, more: Mapping[str, Any]) -> tuple[GenerationRequest, dict[str, Any]]:
    """The domain's request, and what its answer repeats."""
    offered = offer(fields.tools or ())
    chosen, parallel = choice(fields.tool_choice, offered.tools)
    steered = steering(fields.thinking, fields.output_config, fields.output_format)
    form = _form(fields, steered)
    arguments = {**common(fields, asker), **more}
    if arguments["session"] is None and "x-session-id" not in asker.headers:
        arguments["session"] = asker.headers.get(CLIENT_SESSION, "")[:MOST_SESSION] or None
    request = GenerationRequest(
        **arguments,
        messages=conversation(fields.system, fields.messages or ()),
        tools=offered.tools,
        tool_choice=chosen,
        parallel_tool_calls=parallel,
        constraint=form,
        transforms=transforms(fields.transforms, fields.plugins),
        reasoning_effort=steered.effort,
        template_kwargs=json.dumps({**steered.template, **(fields.chat_template_kwargs or {})}, ensure_ascii=False),
    )
    echo = {"omitted": steered.omitted, "edits": fields.context_management is not None, "notes": list(offered.notes)}
    return request, {name: value for name, value in echo.items() if value}


def _form(fields: PromptFields, steered: Steering) -> Constraint | None:
    """The one form that the answer must have, by any of the names for it. Raises InvalidField."""
    other = constraint(fields)
    if other is not None and steered.constraint is not None:
        what = "output_config.format and another field both constrain the answer."
        raise InvalidField(what, hint="Send one of them.", param="output_config.format")
    return other or steered.constraint
