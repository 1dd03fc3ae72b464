"""A conversation that is longer than the context, shortened from its middle outwards. Pure.

Source: OpenRouter's ``middle-out`` transform: beginning and end of a conversation matter most. Whole exchanges go, from
a user's message up to the next one, so that whoever must alternate still does; of the last exchange, which is the
question, whole rounds of calls with their results. What stays always: system and developer messages, the last user's
message, and the last message with what it belongs to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence

from meshnode.domain import Message, ReasoningPart, RefusalPart, Role, TextPart

NAME = "middle-out"
_ALWAYS = (Role.SYSTEM, Role.DEVELOPER)


def middle_out(
    messages: Sequence[Message], fits: Callable[[tuple[Message, ...]], bool], *, most_characters: int
) -> tuple[Message, ...]:
    """As many of the messages as ``fits`` lets stay; where it takes none, those that always stay.

    It is asked of no more than ``most_characters``, what always stays aside, and a few times only: to render and to
    tokenise a conversation takes time.
    """
    units = removable(messages)
    middle = len(units) - 1
    order = sorted(range(len(units)), key=lambda at: (abs(2 * at - middle), at))

    def left(count: int) -> tuple[Message, ...]:
        gone = {place for at in order[:count] for place in units[at]}
        return tuple(message for place, message in enumerate(messages) if place not in gone)

    sizes = [sum(_size(messages[place]) for place in units[at]) for at in order]
    low, high, size = 0, len(units), sum(sizes)
    while low < high and size > most_characters:
        size -= sizes[low]
        low += 1
    if fits(left(low)):
        return left(low)
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if fits(left(half)) else (half + 1, high)
    return left(low)


def removable(messages: Sequence[Message]) -> list[list[int]]:
    """Places of the messages that may go, those that must go together in one list; in order."""
    question = max((at for at, message in enumerate(messages) if message.role is Role.USER), default=len(messages))
    spoken = [at for at, message in enumerate(messages) if message.role not in _ALWAYS]
    results = defaultdict[str | None, list[int]](list)
    for at in spoken:
        results[messages[at].tool_call_id].append(at)
    units: list[list[int]] = []
    until = -1
    for at in spoken:
        message = messages[at]
        begins = message.role is Role.USER or (at > question and message.role is Role.ASSISTANT)
        if not units or (begins and at > until):
            units.append([])
        units[-1].append(at)
        until = max([until, *(_next(results[call.id], at) for call in message.tool_calls)])
    stays = {question, *spoken[-1:]}
    return [unit for unit in units if stays.isdisjoint(unit)]


def _next(places: Sequence[int], after: int) -> int:
    """The first of the places that comes later, or none."""
    at = bisect_right(places, after)
    return places[at] if at < len(places) else -1


def _size(message: Message) -> int:
    texts = (part.text for part in message.parts if isinstance(part, TextPart | RefusalPart | ReasoningPart))
    return sum(map(len, texts)) + sum(len(call.arguments) for call in message.tool_calls)
