"""Tools, calls and results as plain text, for chat templates that have no words for them. Pure.

Most small models were trained without a syntax of calls, and their templates pass tools over in silence. Such a model
is told in a system text which tools there are, and to call them in fenced JSON, which
:mod:`meshnode.engine.replies.families` reads. Calls of earlier turns stand in the conversation as it was told to write
them; results that the template refuses or leaves out are told by the user, as there is nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from meshnode.domain import GenerationRequest, Message, Role, TextPart, Tool, ToolCall, ToolMode
from meshnode.engine.turns import Takes, text_of, tool_list

_EXAMPLE: Final = '{"name": "the tool\'s name", "arguments": {"a parameter": "its value"}}'


def in_words(messages: Sequence[Message], request: GenerationRequest, takes: Takes) -> list[Message]:
    """These of the request's messages, with what the template cannot show put into words.

    Raises InvalidField where a tool's schema is not JSON.
    """
    told = list(messages)
    if not takes.results:
        told = _results_told(told)
    if not takes.tool_calls:
        told = [_calls_told(message) for message in told]
    if request.tools and not takes.tools and request.tool_choice.mode != ToolMode.NONE:
        told = _tools_told(told, request.tools, parallel=request.parallel_tool_calls)
    return told


def _tools_told(messages: Sequence[Message], tools: Sequence[Tool], *, parallel: bool) -> list[Message]:
    """A system text lists the tools and says how to call; a system message that is there goes on after it."""
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tool_list(tools))
    often = "To call several at once, write one block for each." if parallel else "Call one tool at a time."
    text = (
        f"You can call these tools, each described by one line of JSON:\n{listed}\n\n"
        f"To call a tool, answer with nothing but a block like this:\n{_fenced(_EXAMPLE)}\n{often} "
        "Where no tool is needed, answer in plain words."
    )
    first, *rest = messages or [Message(role=Role.SYSTEM)]
    if first.role not in (Role.SYSTEM, Role.DEVELOPER):
        return [Message(role=Role.SYSTEM, parts=(TextPart(text),)), first, *rest]
    said = text_of(first)
    return [Message(role=first.role, parts=(TextPart(f"{text}\n\n{said}" if said else text),)), *rest]


def _calls_told(message: Message) -> Message:
    """A message whose calls are the last of its text."""
    if not message.tool_calls:
        return message
    calls = (TextPart(_fenced(_call(call))) for call in message.tool_calls)
    return replace(message, parts=(*message.parts, *calls), tool_calls=())


def _results_told(messages: Sequence[Message]) -> list[Message]:
    """Results as what the user says; those that follow each other, and the user's words after them, in one turn."""
    called = {call.id: call.name for message in messages for call in message.tool_calls}
    told: list[Message] = []
    open_turn = False
    for message in messages:
        is_result = message.role == Role.TOOL
        turn = _result(message, called) if is_result else message
        if open_turn and turn.role == Role.USER:
            told[-1] = replace(told[-1], parts=(*told[-1].parts, *turn.parts))
        else:
            told.append(turn)
        open_turn = is_result
    return told


def _result(message: Message, called: Mapping[str, str]) -> Message:
    name = message.name or called.get(message.tool_call_id or "", "")
    head = f"The tool {name} returned:" if name else "The tool returned:"
    return Message(role=Role.USER, parts=(TextPart(f"{head}\n{text_of(message)}"),))


def _call(call: ToolCall) -> str:
    # The arguments as the model wrote them: to read and write them again could change a number.
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments}}}'


def _fenced(text: str) -> str:
    """JSON as small models write a call."""
    return f"```json\n{text}\n```"
