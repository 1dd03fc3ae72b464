"""Items of a Responses conversation → the domain's messages. Pure.

What an assistant did in one turn is one message of the domain: its reasoning, its text, the calls it made. Items of
tools that only OpenAI runs are refused by name, as their results would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from meshnode.api.fields import check_names, convert, invalid, join, text, unsupported
from meshnode.api.responses.thought import unsealed
from meshnode.api.responses.tooling import INPUT, flat
from meshnode.api.tools_schema import Name
from meshnode.domain import Message, Part, ReasoningPart, RefusalPart, Role, TextPart, ToolCall
from meshnode.errors import InvalidField

ROLES: Final = "user, assistant, system or developer"
TYPES: Final = (
    "message, function_call, function_call_output, custom_tool_call, custom_tool_call_output, reasoning, item_reference"
)
_OTHER_ITEMS: Final = frozenset({
    "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction",
    "compaction_trigger", "computer_call", "computer_call_output", "configuration_update", "file_search_call",
    "image_generation_call", "local_shell_call", "local_shell_call_output", "mcp_approval_request",
    "mcp_approval_response", "mcp_call", "mcp_list_tools", "program", "program_output", "shell_call",
    "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
})  # fmt: skip
"""Documented types that this node has no use for."""
_OTHER_PARTS: Final = frozenset({"input_image", "input_file", "input_audio", "computer_screenshot"})

Id = Annotated[str, text(256)]
Status = Annotated[str, text(32)]


class ItemFields(msgspec.Struct, kw_only=True):
    """What every item may have beside its own: names and states that a server gave it."""

    type: str | None = None
    id: Id | None = None
    status: Status | None = None
    created_by: str | None = None


class MessageFields(ItemFields, kw_only=True):
    """A message, as an easy one or as an answer has it."""

    role: str
    content: str | list[dict[str, Any]]
    phase: str | None = None


class CallFields(ItemFields, kw_only=True):
    """A function call."""

    call_id: Id
    name: Name
    arguments: str
    namespace: Name | None = None
    caller: dict[str, Any] | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class CustomCallFields(ItemFields, kw_only=True):
    """The call of a custom tool."""

    call_id: Id
    name: Name
    input: str
    namespace: Name | None = None
    caller: dict[str, Any] | None = None
    async_: bool | None = msgspec.field(default=None, name="async")


class OutputFields(ItemFields, kw_only=True):
    """What a call returned."""

    call_id: Id
    output: str | list[dict[str, Any]]
    name: Name | None = None
    namespace: Name | None = None
    caller: dict[str, Any] | None = None


class ReasoningFields(ItemFields, kw_only=True):
    """A thought; a summary is not what was thought and tells a model nothing."""

    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None


class ThoughtFields(msgspec.Struct, kw_only=True):
    """A part of a thought."""

    type: str
    text: str


class PartFields(msgspec.Struct, kw_only=True):
    """A part of text; what stands beside it is what a server adds to its own, or a hint to a cache."""

    type: str
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: Any = None


class RefusalFields(msgspec.Struct, kw_only=True):
    """A refusal."""

    type: str
    refusal: str


class _Turn:
    """What an assistant does before somebody else speaks, as it is read."""

    def __init__(self) -> None:
        self._thoughts: list[str] = []
        self._parts: list[Part] = []
        self._calls: list[ToolCall] = []

    def spoken(self) -> bool:
        """Whether it holds more than thoughts: what it says next is another turn."""
        return bool(self._parts or self._calls)

    def think(self, thought: str) -> None:
        if thought:
            self._thoughts.append(thought)

    def say(self, parts: Sequence[Part]) -> None:
        self._parts += parts

    def call(self, call: ToolCall) -> None:
        self._calls.append(call)

    def message(self) -> Message | None:
        """The turn as one message; ``None`` where nothing is in it."""
        if not (self._thoughts or self.spoken()):
            return None
        thoughts = [ReasoningPart("\n".join(self._thoughts))] if self._thoughts else []
        return Message(role=Role.ASSISTANT, parts=(*thoughts, *self._parts), tool_calls=tuple(self._calls))


class _Reading:
    """The messages read so far, and the assistant's turn under way."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.turn = _Turn()

    def close(self) -> None:
        """End the assistant's turn."""
        message = self.turn.message()
        if message is not None:
            self.messages.append(message)
        self.turn = _Turn()


def messages(items: Sequence[Mapping[str, Any]], path: str = "input") -> tuple[Message, ...]:
    """The messages that these items are. Raises InvalidField, UnknownField or UnsupportedParameter, naming the item."""
    reading = _Reading()
    for index, raw in enumerate(items):
        where = f"{path}[{index}]"
        kind = raw.get("type") or ("message" if "role" in raw else None)
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is not None:
            reader(reading, raw, where)
        elif kind in _OTHER_ITEMS:
            raise unsupported(join(where, "type"), "Leave the item out.", what=f" {kind}")
        else:
            raise invalid(f"{where}.type", kind, TYPES)
    reading.close()
    return tuple(reading.messages)


def _message(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    check_names(raw, MessageFields, {}, path=path)
    fields = convert(raw, MessageFields, path=path)
    if fields.role not in ("user", "assistant", "system", "developer"):
        raise invalid(f"{path}.role", fields.role, ROLES)
    parts = _parts(fields.content, f"{path}.content", refusals=fields.role == "assistant")
    if fields.role == "assistant":
        if reading.turn.spoken():
            reading.close()
        reading.turn.say(parts or (TextPart(""),))
        return
    if not parts:
        raise invalid(f"{path}.content", fields.content, "a string, or an array of one or more parts")
    reading.close()
    reading.messages.append(Message(role=Role(fields.role), parts=parts))


def _call(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    check_names(raw, CallFields, {}, path=path)
    fields = convert(raw, CallFields, path=path)
    reading.turn.call(ToolCall(id=fields.call_id, name=flat(fields.name, fields.namespace), arguments=fields.arguments))


def _custom_call(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    check_names(raw, CustomCallFields, {}, path=path)
    fields = convert(raw, CustomCallFields, path=path)
    arguments = json.dumps({INPUT: fields.input}, ensure_ascii=False)
    reading.turn.call(ToolCall(id=fields.call_id, name=flat(fields.name, fields.namespace), arguments=arguments))


def _output(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    check_names(raw, OutputFields, {}, path=path)
    fields = convert(raw, OutputFields, path=path)
    parts = _parts(fields.output, f"{path}.output", refusals=False) or (TextPart(""),)
    reading.close()
    reading.messages.append(Message(role=Role.TOOL, parts=parts, tool_call_id=fields.call_id))


def _reasoning(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    check_names(raw, ReasoningFields, {}, path=path)
    fields = convert(raw, ReasoningFields, path=path)
    thoughts = []
    for index, one in enumerate(fields.content or ()):
        where = f"{path}.content[{index}]"
        check_names(one, ThoughtFields, {}, path=where)
        thoughts.append(convert(one, ThoughtFields, path=where).text)
    if reading.turn.spoken():
        reading.close()
    reading.turn.think("".join(thoughts) or unsealed(fields.encrypted_content or ""))


def _reference(reading: _Reading, raw: Mapping[str, Any], path: str) -> None:
    """One that is left here stands for nothing that is kept."""
    raise InvalidField(
        f"{path}: there is no item of this id.",
        hint="Send the item itself, or refer to one of a response that is kept.",
        param=f"{path}.id",
    )


_READERS: Final[Mapping[str, Callable[[_Reading, Mapping[str, Any], str], None]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _reasoning,
    "item_reference": _reference,
}


def _parts(content: str | Sequence[Mapping[str, Any]], path: str, *, refusals: bool) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{path}[{index}]", refusals=refusals) for index, part in enumerate(content))


def _part(raw: Mapping[str, Any], path: str, *, refusals: bool) -> Part:
    kind = raw.get("type")
    if kind == "refusal" and refusals:
        check_names(raw, RefusalFields, {}, path=path)
        return RefusalPart(convert(raw, RefusalFields, path=path).refusal)
    if kind in ("input_text", "output_text"):
        check_names(raw, PartFields, {}, path=path)
        return TextPart(convert(raw, PartFields, path=path).text)
    if isinstance(kind, str) and kind in _OTHER_PARTS:
        raise unsupported(join(path, kind))
    raise invalid(f"{path}.type", kind, "input_text or output_text" + (" or refusal" if refusals else ""))
