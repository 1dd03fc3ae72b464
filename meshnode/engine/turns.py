"""Conversations as chat templates want them: lists of plain dictionaries in OpenAI's words. Pure.

Templates differ in what they take. Where one cannot take a thing, it gets the nearest it can, as llama.cpp's
``common/chat.cpp`` arranges it: parts joined by newlines, a system message put before the first user's, tool-call
arguments as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from meshnode.domain import Message, ReasoningPart, RefusalPart, Role, TextPart, Tool
from meshnode.errors import InvalidField

Turn = dict[str, Any]
"""One message as a template sees it."""


class Takes(NamedTuple):
    """What a template can take. Content of more than one part goes as a list where ``parts`` is true.

    ``tools``, ``tool_calls``, ``parallel_calls`` and ``results``: it shows tools that are offered, a call made, a
    second call beside it, what a tool returned. ``thinking``: it has a use for ``enable_thinking``; ``thought_marks``
    is the text before and after a thought. ``lead`` is what every plain answer begins with, after the generation
    prompt. ``thinking_field``: a thought is read as ``thinking``; ``thinking_blocks``: as a part of the content.
    ``trimmed``: white space around content leads the model astray. ``late_system``: it shows system messages after the
    first, in the middle of a conversation too.
    """

    text: bool = True
    parts: bool = False
    system: bool = True
    developer: bool = False
    argument_objects: bool = False
    tools: bool = True
    tool_calls: bool = True
    parallel_calls: bool = True
    results: bool = True
    thinking: bool = False
    lead: str = ""
    thought_marks: tuple[str, str] | None = None
    thinking_field: bool = False
    thinking_blocks: bool = False
    trimmed: bool = False
    late_system: bool = True


def turns(messages: Sequence[Message], takes: Takes) -> list[Turn]:
    """The messages for a template. Raises InvalidField, which names the message, for content no template takes."""
    spoken = [(message, _texts(message, index)) for index, message in enumerate(messages)]
    if not takes.system and spoken and _role(spoken[0][0], takes) == Role.SYSTEM:
        (_, instructions), *spoken = spoken
        if spoken:
            first, texts = spoken[0]
            spoken[0] = first, [*instructions, *texts]
    return [_turn(message, texts, takes) for message, texts in spoken]


def tool_list(tools: Sequence[Tool]) -> list[Turn]:
    """The tools for a template. Raises InvalidField where a schema is not JSON."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _parsed(tool.parameters, f"tools[{index}].function.parameters"),
            },
        }
        for index, tool in enumerate(tools)
    ]


def marked(spoken: Sequence[Turn], mark: str) -> list[Turn]:
    """The turns with a mark at the end of each text, and of the last turn even where it has none."""

    def text(said: str, *, always: bool) -> str:
        return said + mark if said or always else said

    def content(turn: Turn, *, always: bool) -> Any:
        said = turn.get("content")
        if not isinstance(said, list):
            return text(said or "", always=always)
        last = max((index for index, part in enumerate(said) if part["type"] == "text"), default=None)
        return [
            part | {"text": text(part["text"], always=always)} if index == last else part
            for index, part in enumerate(said)
        ]

    lasts = [turn is spoken[-1] for turn in spoken]
    return [turn | {"content": content(turn, always=last)} for turn, last in zip(spoken, lasts, strict=True)]


def begun(last: Message, opening: str, takes: Takes) -> str:
    """The text of a last assistant's turn that is to be continued, after the ``opening`` of an answer.

    A thought that is open in the opening, or came with the message, stands before what was said.
    """
    said, thought = text_of(last), _thought(last)
    marks = takes.thought_marks
    if marks is None:
        return opening + takes.lead + said
    start, end = marks
    head = opening.partition(start.strip())[0]
    if not thought and head == opening and not takes.thinking:
        return opening + takes.lead + said
    return head + start + thought + (end + said if said or not thought else "")


def joined(texts: Sequence[str], border: str = "\n") -> str:
    """Parts as one text: the border stands before each part that has text before it."""
    whole = ""
    for text in texts:
        whole += border + text if whole else text
    return whole


def text_of(message: Message) -> str:
    """What a message says, as one text, its parts as paragraphs."""
    return joined(_texts(message, 0), "\n\n")


def _role(message: Message, takes: Takes) -> Role:
    return Role.SYSTEM if message.role == Role.DEVELOPER and not takes.developer else message.role


def _texts(message: Message, index: int) -> list[str]:
    """The text parts of a message."""
    for part in message.parts:
        if not isinstance(part, TextPart | RefusalPart | ReasoningPart):
            kind = type(part).__name__.removesuffix("Part").lower()
            raise InvalidField(
                f"messages[{index}].content has a part of kind {kind}, which this model cannot take.",
                hint="Send text parts only.",
                param=f"messages[{index}].content",
            )
    return [part.text for part in message.parts if isinstance(part, TextPart | RefusalPart)]


def _thought(message: Message) -> str:
    return joined([part.text for part in message.parts if isinstance(part, ReasoningPart)])


def _turn(message: Message, texts: Sequence[str], takes: Takes) -> Turn:
    reasoning = _thought(message)
    if takes.trimmed:
        texts, reasoning = [text.strip() for text in texts], reasoning.strip()
    as_list = takes.parts and (len(texts) > 1 or not takes.text)
    turn: Turn = {
        "role": _role(message, takes).value,
        "content": [{"type": "text", "text": text} for text in texts or [""]] if as_list else joined(texts),
    }
    if takes.thinking_blocks and message.role in (Role.SYSTEM, Role.ASSISTANT):
        thoughts = [{"type": "thinking", "thinking": reasoning}] if reasoning else []
        turn["content"] = thoughts + [{"type": "text", "text": text} for text in texts or [""]]
        reasoning = ""
    if takes.thinking_field and reasoning:
        turn["thinking"] = reasoning
        if takes.developer and message.tool_calls:
            del turn["content"]  # gpt-oss reads either as the thought before a call
    named = {"reasoning_content": reasoning, "name": message.name, "tool_call_id": message.tool_call_id}
    turn |= {key: value for key, value in named.items() if value}
    if message.tool_calls:
        turn["tool_calls"] = _tool_calls(message, takes)
    return turn


def _tool_calls(message: Message, takes: Takes) -> list[Turn]:
    def arguments(text: str) -> object:
        return _parsed(text, "messages.tool_calls.function.arguments") if takes.argument_objects else text

    return [
        {"type": "function", "function": {"name": call.name, "arguments": arguments(call.arguments)}, "id": call.id}
        for call in message.tool_calls
    ]


def _parsed(text: str, param: str) -> object:
    """JSON text as what it stands for."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidField(f"{param} is not JSON.", hint="Send a JSON object.", param=param) from None
    return value
