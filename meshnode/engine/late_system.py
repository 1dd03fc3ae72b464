"""System messages in the middle of a conversation, for chat templates that have no place for them. Pure.

Coding agents remind a model of things between the turns. Many templates refuse a system message that is not the first,
or pass it over; there the user says it, at that very place, so that what stands before remains the same text and is
found in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from msgspec.structs import replace

from meshnode.domain import Message, Part, Role, TextPart
from meshnode.engine.turns import Takes, joined, text_of

_SYSTEM = (Role.SYSTEM, Role.DEVELOPER)


def said_by_users(messages: Sequence[Message], takes: Takes) -> list[Message]:
    """The conversation with one system message at its head, and what later ones say in the users' turns around them.

    It ends the user's turn before it, or else begins the one after it; where there is neither, it is a turn of its own,
    but never between calls and their results. What the template shows as it is stays as it is.
    """
    if takes.late_system:
        return list(messages)
    told: list[Message] = []
    held: list[str] = []
    for is_system, group in groupby(messages, lambda message: message.role in _SYSTEM):
        run = list(group)
        if is_system and told and told[-1].role != Role.USER:
            held += map(text_of, run)
        elif is_system:
            first = told.pop() if told else run.pop(0)
            told.append(_ended(first, list(map(text_of, run))))
        else:
            held = _spoken(told, held, run)
    return [*told, _turn(held)] if held else told


def _spoken(told: list[Message], held: list[str], run: Iterable[Message]) -> list[str]:
    """Add messages that are not the system's, and what is held to where it fits first; gives what is held still."""
    for message in run:
        if held and message.role == Role.USER:
            message, held = _begun(message, held), []
        elif held and message.role != Role.TOOL:
            told.append(_turn(held))
            held = []
        told.append(message)
    return held


def _turn(texts: Sequence[str]) -> Message:
    return Message(role=Role.USER, parts=(TextPart(joined(texts, "\n\n")),))


def _ended(message: Message, texts: Sequence[str]) -> Message:
    if not texts:
        return message
    *rest, last = message.parts or (TextPart(""),)
    return replace(message, parts=(*rest, *_paragraphs(last, TextPart(joined(texts, "\n\n")))))


def _begun(message: Message, texts: Sequence[str]) -> Message:
    first, *rest = message.parts or (TextPart(""),)
    return replace(message, parts=(*_paragraphs(TextPart(joined(texts, "\n\n")), first), *rest))


def _paragraphs(one: Part, other: Part) -> tuple[Part, ...]:
    """Two parts as one text, where they are text: templates put nothing between parts, or a line break at most."""
    if isinstance(one, TextPart) and isinstance(other, TextPart):
        return (TextPart(joined([one.text, other.text], "\n\n")),)
    return (one, other)
