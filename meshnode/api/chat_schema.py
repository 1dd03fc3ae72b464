"""The body of ``POST /v1/chat/completions`` ⇄ the domain. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, join, never, only, text, unsupported
from meshnode.api.schema import (
    COMMON_REFUSALS,
    Ask,
    Asker,
    CommonFields,
    StreamOptions,
    Verbosity,
    ask,
    common,
    stopping,
)
from meshnode.api.strictjson import parse_object
from meshnode.domain import GenerationRequest, Message, Role, TextPart

ROLES: Final = "system, developer, user or assistant"

Messages = Annotated[
    list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=65536, description="an array of 1 to 65536 messages")
]


class ChatFields(CommonFields, kw_only=True):
    """The fields of a chat request that are honoured, then those that change no answer."""

    messages: Messages
    max_completion_tokens: Annotated[int, integer(1, 2**31 - 1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Annotated[str, text(32)] | None = None

    parallel_tool_calls: bool | None = None
    prompt_cache_key: Annotated[str, text(256)] | None = None
    prompt_cache_retention: Annotated[str, text(64)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    verbosity: Verbosity | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {
    **COMMON_REFUSALS,
    "tools": only([]),
    "tool_choice": only("none", "auto"),
    "functions": only([]),
    "function_call": only("none", "auto"),
    "response_format": only({"type": "text"}),
    "logprobs": only(False),
    "top_logprobs": only(0),
    "modalities": only(["text"]),
    "modality": only("text"),
    "audio": never(),
    "image": never(),
    "prediction": never(),
    "web_search_options": never(),
    "moderation": never(),
}


class MessageFields(msgspec.Struct, kw_only=True):
    """One message as it comes over the wire; ``annotations`` is what a server adds to its own answers."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: Annotated[str, text(256)] | None = None
    annotations: list[Any] | None = None


_MESSAGE_REFUSALS: Final[Mapping[str, Refusal]] = {
    "tool_calls": only([]),
    "tool_call_id": never(),
    "function_call": never(),
    "refusal": only(""),
    "audio": never(),
    "reasoning_content": only(""),
    "reasoning": only(""),
}


class TextFields(msgspec.Struct, kw_only=True):
    """A text part; ``cache_control`` and its like are hints to caches."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None
    prompt_cache_breakpoint: Any = None


_OTHER_PARTS: Final = frozenset(
    {"image_url", "input_audio", "file", "refusal", "video_url", "input_image", "input_file"}
)


def parse_chat(body: bytes, asker: Asker) -> Ask:
    """A chat request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    raw = parse_object(body)
    check_names(raw, ChatFields, REFUSALS)
    options = raw.get("stream_options")
    fields = convert(raw, ChatFields)
    if isinstance(options, dict):
        check_names(options, StreamOptions, {}, path="stream_options")
    most = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    shared = common(fields, asker) | {"stopping": stopping(fields, most)}
    request = GenerationRequest(
        **shared,
        messages=tuple(_message(message, f"messages[{index}]") for index, message in enumerate(fields.messages)),
        reasoning_effort=fields.reasoning_effort,
        template_kwargs=json.dumps(fields.chat_template_kwargs or {}, ensure_ascii=False),
    )
    return ask(fields, request)


def _message(raw: Mapping[str, Any], path: str) -> Message:
    role = _role(raw.get("role"), f"{path}.role")
    check_names(raw, MessageFields, _MESSAGE_REFUSALS, path=path)
    fields = convert(raw, MessageFields, path=path)
    where = f"{path}.content"
    if isinstance(fields.content, str):
        return Message(role=role, parts=(TextPart(fields.content),), name=fields.name)
    if not fields.content:
        raise invalid(where, fields.content, "a string, or an array of one or more text parts")
    parts = tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(fields.content))
    return Message(role=role, parts=parts, name=fields.name)


def _role(role: object, path: str) -> Role:
    if role in ("tool", "function"):
        raise unsupported(path, f"Roles served: {ROLES}.", what=f" {role}")
    if role not in ("system", "developer", "user", "assistant"):
        raise invalid(path, role, ROLES)
    return Role(role)


def _part(raw: Mapping[str, Any], path: str) -> TextPart:
    kind = raw.get("type")
    if isinstance(kind, str) and kind in _OTHER_PARTS:
        raise unsupported(join(path, kind))
    if kind != "text":
        raise invalid(f"{path}.type", kind, '"text"')
    check_names(raw, TextFields, {}, path=path)
    return TextPart(convert(raw, TextFields, path=path).text)
