"""``system`` and ``messages`` ⇄ the domain's messages. Pure.

Source: Anthropic's API reference, "Create a Message". Results of tools come inside a user's message there and are
messages of their own here; turns of one role that follow each other are one turn, as that API has it.

Claude Code begins its system prompt with a line ``x-anthropic-billing-header: cc_version=…; cch=…;`` whose value is
another in every request. To a model it means nothing, and as the first thing in the prompt it would make every prefix
kept from the last turn useless, so the line is taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from meshnode.api.fields import invalid, text
from meshnode.api.messages.blocks import Content, Id, Raw, block, kind_of, parts, read
from meshnode.domain import Message, Part, Role, TextPart, ToolCall

MOST_MESSAGES: Final = 100_000
"""Messages of one request, as Anthropic allows."""
_BILLING: Final = re.compile(r"\s*x-anthropic-billing-header:[^\n]*(?:\n+|\Z)", re.IGNORECASE)
_OF_USER: Final = ("text", "document", "search_result")
_OF_ASSISTANT: Final = ("text", "thinking", "redacted_thinking")
_OF_RESULT: Final = ("text", "document", "search_result", "tool_reference")
FAILED: Final = "The tool failed:"
"""What goes before a result that has ``is_error``."""

Messages = Annotated[
    list[dict[str, Any]],
    msgspec.Meta(min_length=1, max_length=MOST_MESSAGES, description=f"an array of 1 to {MOST_MESSAGES} messages"),
]


class MessageFields(msgspec.Struct, kw_only=True):
    """One message as it comes over the wire."""

    role: Literal["user", "assistant", "system"]
    content: Content


class ToolUseBlock(msgspec.Struct, kw_only=True):
    """``tool_use``; ``caller`` and ``toolset_name`` say which of Anthropic's servers' tools made the call."""

    type: Literal["tool_use"]
    id: Id
    name: Annotated[str, text(256)]
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None
    cache_control: dict[str, Any] | None = None


class ToolResultBlock(msgspec.Struct, kw_only=True):
    """``tool_result``."""

    type: Literal["tool_result"]
    tool_use_id: Id
    content: Content | None = None
    is_error: bool | None = None
    toolset_name: str | None = None
    cache_control: dict[str, Any] | None = None


def conversation(system: Content | None, messages: Sequence[Raw]) -> tuple[Message, ...]:
    """The whole conversation. Raises InvalidField, UnknownField or UnsupportedParameter, which name the place."""
    told = [[each] for each in _system(system, "system")] if system is not None else []
    for index, raw in enumerate(messages):
        path = f"messages[{index}]"
        fields = read(raw, MessageFields, path)
        where = f"{path}.content"
        match fields.role:
            case "system":
                turns = _system(fields.content, where)
            case "user":
                turns = _of_user(fields.content, where)
            case "assistant":
                turns = _of_assistant(fields.content, where)
        for turn in turns:
            _add(told, turn)
    return tuple(map(_one, told))


def _system(content: Content, path: str) -> list[Message]:
    """A system message, without the line that changes with every request; none where nothing is left."""
    texts = [part.text for part in parts(content, path, ("text",)) if isinstance(part, TextPart)]
    kept = tuple(TextPart(rest) for rest in map(_without_nonce, texts) if rest)
    return [Message(role=Role.SYSTEM, parts=kept)] if kept else []


def _without_nonce(said: str) -> str:
    line = _BILLING.match(said)
    return said[line.end() :] if line else said


def _of_user(content: Content, path: str) -> list[Message]:
    """What the user said and what tools returned, in order."""
    if isinstance(content, str):
        return [Message(role=Role.USER, parts=(TextPart(content),))]
    if not content:
        raise invalid(path, content, "a string, or an array of one or more blocks")
    told: list[list[Message]] = []
    for index, raw in enumerate(content):
        where = f"{path}[{index}]"
        if kind_of(raw, where, (*_OF_USER, "tool_result")) == "tool_result":
            told.append([_result(read(raw, ToolResultBlock, where), where)])
        else:
            _add(told, Message(role=Role.USER, parts=block(raw, where, _OF_USER)))
    return list(map(_one, told))


def _result(fields: ToolResultBlock, path: str) -> Message:
    said = parts("" if fields.content is None else fields.content, f"{path}.content", _OF_RESULT)
    failed: tuple[Part, ...] = (TextPart(FAILED),) if fields.is_error else ()
    return Message(role=Role.TOOL, parts=failed + said, tool_call_id=fields.tool_use_id)


def _of_assistant(content: Content, path: str) -> list[Message]:
    """One turn of the assistant; none where it is empty."""
    said: list[Part] = []
    calls: list[ToolCall] = []
    for index, raw in enumerate([{"type": "text", "text": content}] if isinstance(content, str) else content):
        where = path if isinstance(content, str) else f"{path}[{index}]"
        if kind_of(raw, where, (*_OF_ASSISTANT, "tool_use")) == "tool_use":
            call = read(raw, ToolUseBlock, where)
            calls.append(ToolCall(id=call.id, name=call.name, arguments=json.dumps(call.input, ensure_ascii=False)))
        else:
            said.extend(block(raw, where, _OF_ASSISTANT))
    return [Message(role=Role.ASSISTANT, parts=tuple(said), tool_calls=tuple(calls))] if said or calls else []


def _add(told: list[list[Message]], turn: Message) -> None:
    """Add a turn, to the last ones where it is of the same role and nothing stands between them."""
    last = told[-1][-1] if told else None
    if last is None or last.role != turn.role or last.tool_calls or turn.role not in (Role.USER, Role.ASSISTANT):
        told.append([turn])
    else:
        told[-1].append(turn)


def _one(turns: Sequence[Message]) -> Message:
    """Turns that are one: the parts of all, and the calls of the last."""
    if len(turns) == 1:
        return turns[0]
    return replace(turns[-1], parts=tuple(part for turn in turns for part in turn.parts))
