"""A conversation that the node remembers, and what a caller sends of it. Pure.

A caller may send what is new, or the whole conversation once more: either way every turn stands in it once. System
messages at its head are the caller's to change, so those of the latest request hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshnode.domain import Message, Part, ReasoningPart, RefusalPart, Role, TextPart, ToolCall
from meshnode.events import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, ToolCallStarted

Messages = tuple[Message, ...]


def continued(history: Messages, sent: Messages) -> Messages:
    """The conversation so far with what was sent behind it, unless that holds it already."""
    (old_head, old), (head, new) = _split(history), _split(sent)
    if _common(old, new) == len(old):
        return (head or old_head) + new
    return (head or old_head) + old + new


def grown(history: Messages, said: Messages) -> Messages:
    """The conversation after one more exchange; ``said`` is all that was said in it, from its begin on.

    Another exchange may have come between the two: what both begin with stands once, and nobody's turn is lost.
    """
    (old_head, old), (head, new) = _split(history), _split(said)
    return (head or old_head) + old + new[_common(old, new) :]


def spoken(events: Iterable[Event]) -> Message:
    """The first choice of an answer as the assistant's turn."""
    text: list[str] = []
    thoughts: list[str] = []
    refusal: list[str] = []
    calls: dict[int, tuple[str, str, list[str]]] = {}
    for event in events:
        match event:
            case TextDelta(choice=0):
                text.append(event.text)
            case ReasoningDelta(choice=0):
                thoughts.append(event.text)
            case RefusalDelta(choice=0):
                refusal.append(event.text)
            case ToolCallStarted(choice=0):
                calls[event.index] = (event.id, event.name, [])
            case ToolCallDelta(choice=0) if event.index in calls:
                calls[event.index][2].append(event.arguments)
            case _:
                pass
    kinds = ((ReasoningPart, thoughts), (TextPart, text), (RefusalPart, refusal))
    parts: list[Part] = [kind(joined) for kind, pieces in kinds if (joined := "".join(pieces))]
    made = tuple(ToolCall(id=id_, name=name, arguments="".join(said)) for id_, name, said in calls.values())
    return Message(role=Role.ASSISTANT, parts=tuple(parts), tool_calls=made)


def _split(messages: Messages) -> tuple[Messages, Messages]:
    """System messages at the head, and the rest."""
    head = 0
    while head < len(messages) and messages[head].role in (Role.SYSTEM, Role.DEVELOPER):
        head += 1
    return messages[:head], messages[head:]


def _common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many turns both begin with."""
    count = 0
    while count < min(len(one), len(other)) and _same(one[count], other[count]):
        count += 1
    return count


def _same(one: Message, other: Message) -> bool:
    """Whether two turns say the same. What was thought before does not count: few clients send it back."""
    if (one.role, one.tool_calls, one.tool_call_id) != (other.role, other.tool_calls, other.tool_call_id):
        return False
    return _said(one) == _said(other)


def _said(message: Message) -> list[Part]:
    """The parts that count, neighbouring text joined."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ReasoningPart):
            continue
        if isinstance(part, TextPart) and parts and isinstance(parts[-1], TextPart):
            part = TextPart(parts.pop().text + part.text)  # type: ignore[union-attr]  # it was looked at
        parts.append(part)
    return parts
