"""The body of ``POST /v1/chat/completions`` ⇄ the domain. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.constraint_schema import constraint
from meshnode.api.fields import Refusal, check_names, convert, integer, invalid, join, never, only, text, unsupported
from meshnode.api.functions_schema import as_tool_choice, as_tool_messages, as_tools
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
from meshnode.api.template_schema import Variables, template_use
from meshnode.api.tools_schema import MAX_TOOLS, tool_calls, tool_choice, tools
from meshnode.api.transforms import Plugins, Transforms, transforms
from meshnode.domain import (
    GenerationRequest,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolChoice,
)
from meshnode.errors import InvalidField

ROLES: Final = "system, developer, user, assistant, tool or function"
MOST_TOP_LOGPROBS: Final = 20

Messages = Annotated[
    list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=65536, description="an array of 1 to 65536 messages")
]

Tools = Annotated[
    list[dict[str, Any]], msgspec.Meta(max_length=MAX_TOOLS, description=f"an array of at most {MAX_TOOLS} tools")
]


Functions = Annotated[
    list[dict[str, Any]],
    msgspec.Meta(max_length=MAX_TOOLS, description=f"an array of at most {MAX_TOOLS} functions"),
]


class PredictionFields(msgspec.Struct, kw_only=True):
    """``prediction``: much of the answer as the caller expects it, which some providers use to be quicker."""

    type: Literal["content"]
    content: str | list[dict[str, Any]]


class ChatFields(CommonFields, kw_only=True):
    """The fields of a chat request that are honoured, then those that change no answer."""

    messages: Messages | None = None
    max_completion_tokens: Annotated[int, integer(1, 2**31 - 1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Annotated[str, text(32)] | None = None
    response_format: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: Any = None
    functions: Functions | None = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, integer(0, MOST_TOP_LOGPROBS)] | None = None
    transforms: Transforms | None = None
    plugins: Plugins | None = None

    prompt_cache_key: Annotated[str, text(256)] | None = None
    prompt_cache_retention: Annotated[str, text(64)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    verbosity: Verbosity | None = None
    prediction: dict[str, Any] | None = None
    template: Annotated[str, text(128)] | None = None
    variables: Variables | None = None


REFUSALS: Final[Mapping[str, Refusal]] = {
    **COMMON_REFUSALS,
    "modalities": only(["text"]),
    "modality": only("text"),
    "audio": never(),
    "image": never(),
    "web_search_options": never(),
    "moderation": never(),
}


class MessageFields(msgspec.Struct, kw_only=True):
    """One message as it comes over the wire; ``annotations`` is what a server adds to its own answers."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: Annotated[str, text(256)] | None = None
    tool_calls: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, text(256)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: list[Any] | None = None


_OF_ASSISTANT: Final = ("tool_calls", "refusal", "reasoning_content", "reasoning")
_MESSAGE_REFUSALS: Final[Mapping[str, Refusal]] = {
    "function_call": never(),
    "audio": never(),
}
"""Of a message: ``function_call`` as null; one that says something is read as a call of ``tool_calls``."""


class TextFields(msgspec.Struct, kw_only=True):
    """A text part; ``cache_control`` and its like are hints to caches."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None
    prompt_cache_breakpoint: Any = None


_OTHER_PARTS: Final = frozenset({"image_url", "input_audio", "file", "video_url", "input_image", "input_file"})


def parse_chat(body: bytes, asker: Asker) -> Ask:
    """A chat request. Raises MalformedBody, InvalidField, UnknownField or UnsupportedParameter."""
    return read_chat(parse_object(body), asker)


def read_chat(raw: Mapping[str, Any], asker: Asker) -> Ask:
    """A chat request whose JSON was read. Raises InvalidField, UnknownField or UnsupportedParameter."""
    check_names(raw, ChatFields, REFUSALS)
    options = raw.get("stream_options")
    fields = convert(raw, ChatFields)
    if isinstance(options, dict):
        check_names(options, StreamOptions, {}, path="stream_options")
    most = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    shared = common(fields, asker) | {"stopping": stopping(fields, most)}
    if fields.prediction is not None:
        check_names(fields.prediction, PredictionFields, {}, path="prediction")
        convert(fields.prediction, PredictionFields, path="prediction")
    offered, choice = _tools(fields)
    form = constraint(fields, fields.response_format)
    use = template_use(fields.template, fields.variables)
    if fields.messages is None and use is None:
        raise InvalidField("messages is missing.", hint="Allowed: an array of 1 to 65536 messages.", param="messages")
    request = GenerationRequest(
        **shared,
        tools=offered,
        tool_choice=choice,
        parallel_tool_calls=fields.parallel_tool_calls is not False and not fields.functions,
        constraint=form,
        top_logprobs=_top_logprobs(fields),
        messages=_conversation(fields.messages or ()),
        reasoning_effort=fields.reasoning_effort,
        transforms=transforms(fields.transforms, fields.plugins),
        template_kwargs=json.dumps(fields.chat_template_kwargs or {}, ensure_ascii=False),
    )
    answered = ask(fields, request)
    keep = answered.keep._replace(template=use)
    echo: dict[str, Any] = {"functions": True} if fields.functions else {}
    if keep.store and fields.metadata:
        echo["metadata"] = fields.metadata
    return answered._replace(keep=keep, echo=echo)


def _tools(fields: ChatFields) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The tools and how far the model may choose, in today's words or in those before."""
    if not fields.functions:
        if fields.function_call not in (None, "none", "auto"):
            raise InvalidField("function_call needs functions.", hint="Send both, or tools.", param="function_call")
        offered = tools(fields.tools or ())
        return offered, tool_choice(fields.tool_choice, offered)
    for name in ("tools", "tool_choice"):
        if getattr(fields, name) is not None:
            raise InvalidField(f"functions and {name} are both given.", hint="Send tools.", param="functions")
    offered = tools(as_tools(fields.functions))
    return offered, tool_choice(as_tool_choice(fields.function_call), offered)


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(as_tool_messages(messages)))


def _top_logprobs(fields: ChatFields) -> int | None:
    if fields.logprobs:
        return fields.top_logprobs or 0
    if fields.top_logprobs:
        raise InvalidField("top_logprobs needs logprobs.", hint="Send logprobs: true as well.", param="top_logprobs")
    return None


def _message(raw: Mapping[str, Any], path: str) -> Message:
    role = _role(raw.get("role"), f"{path}.role")
    check_names(raw, MessageFields, _MESSAGE_REFUSALS, path=path)
    fields = convert(raw, MessageFields, path=path)
    _check_belongings(fields, role, path)
    calls = tool_calls(fields.tool_calls or (), f"{path}.tool_calls")
    return Message(
        role=role,
        parts=(*_thoughts(fields), *_content(fields, calls != (), path), *_refusal(fields)),
        name=fields.name,
        tool_calls=calls,
        tool_call_id=fields.tool_call_id,
    )


def _check_belongings(fields: MessageFields, role: Role, path: str) -> None:
    """Raises InvalidField for what only another role's message may have."""
    for name in _OF_ASSISTANT if role is not Role.ASSISTANT else ():
        if getattr(fields, name):
            raise invalid(f"{path}.{name}", getattr(fields, name), "left out, unless the role is assistant")
    if (role is Role.TOOL) != (fields.tool_call_id is not None):
        wanted = "the id of the call that it answers" if role is Role.TOOL else "left out, unless the role is tool"
        raise invalid(f"{path}.tool_call_id", fields.tool_call_id, wanted)


def _thoughts(fields: MessageFields) -> tuple[Part, ...]:
    thoughts = fields.reasoning_content or fields.reasoning
    return (ReasoningPart(thoughts),) if thoughts else ()


def _refusal(fields: MessageFields) -> tuple[Part, ...]:
    return (RefusalPart(fields.refusal),) if fields.refusal else ()


def _content(fields: MessageFields, may_be_absent: bool, path: str) -> tuple[Part, ...]:
    where = f"{path}.content"
    if isinstance(fields.content, str):
        return (TextPart(fields.content),) if fields.content or not may_be_absent else ()
    if not fields.content:
        if may_be_absent or (fields.content is None and fields.refusal):
            return ()
        raise invalid(where, fields.content, "a string, or an array of one or more text parts")
    return tuple(_part(part, f"{where}[{index}]") for index, part in enumerate(fields.content))


def _role(role: object, path: str) -> Role:
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise invalid(path, role, ROLES)
    return Role(role)


def _part(raw: Mapping[str, Any], path: str) -> Part:
    kind = raw.get("type")
    if kind == "refusal" and isinstance(raw.get("refusal"), str) and raw.keys() <= {"type", "refusal"}:
        return RefusalPart(raw["refusal"])
    if isinstance(kind, str) and kind in _OTHER_PARTS:
        raise unsupported(join(path, kind))
    if kind != "text":
        raise invalid(f"{path}.type", kind, '"text"')
    check_names(raw, TextFields, {}, path=path)
    return TextPart(convert(raw, TextFields, path=path).text)
