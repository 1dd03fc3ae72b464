"""A conversation that is longer than the context, shortened from its middle outwards. Pure.

Source: OpenRouter's ``middle-out`` transform: beginning and end of a conversation matter most. Whole exchanges go, from
a user's message up to the next one, so that whoever must alternate still does; of the last exchange, which is the
question, whole rounds of calls with their results. What stays always: system and developer messages, the last user's
message, and the last message with what it belongs to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate, count

from meshnode.domain import Message, ReasoningPart, RefusalPart, Role, TextPart

NAME = "middle-out"
_ALWAYS = (Role.SYSTEM, Role.DEVELOPER)
_GUESSES = 6
"""Looks after which a text that is not what was guessed is halved instead."""


def middle_out(
    messages: Sequence[Message],
    length: Callable[[tuple[Message, ...]], int | None],
    *,
    most: int,
    most_characters: int,
) -> tuple[Message, ...]:
    """As many of the messages as have a ``length`` of at most ``most`` tokens; where none fit, those that always stay.

    ``length`` is ``None`` of what is too long to be counted. It is asked a few times only, and of no more than
    ``most_characters``, what always stays aside: to render and to tokenise a conversation takes time.
    """
    units = removable(messages)
    middle = len(units) - 1
    order = sorted(range(len(units)), key=lambda at: (abs(2 * at - middle), at))
    whole = sum(map(_size, messages))
    gone = [0, *accumulate(sum(_size(messages[place]) for place in units[at]) for at in order)]

    def left(count: int) -> tuple[Message, ...]:
        out = {place for at in order[:count] for place in units[at]}
        return tuple(message for place, message in enumerate(messages) if place not in out)

    low = bisect_left(gone, gone[-1] - most_characters)
    return left(_fewest(lambda count: length(left(count)), gone, low, whole=max(1, whole), most=most))


def _fewest(length: Callable[[int], int | None], gone: Sequence[int], low: int, *, whole: int, most: int) -> int:
    """How many units must go, at least ``low``: all, where that is not enough.

    Tokens are guessed from characters, by the length that was found last, so that two or three looks are enough.
    """
    place, tokens = low, length(low)
    if tokens is not None and tokens <= most:
        return low
    too_few, enough = low, len(gone) - 1
    for look in count():
        if enough - too_few <= 1:
            break
        guess = (too_few + enough) // 2
        if tokens is not None and look < _GUESSES:
            guess = bisect_left(gone, gone[place] + (tokens - most) * (whole - gone[place]) / max(1, tokens))
        place = min(max(guess, too_few + 1), enough - 1)
        tokens = length(place)
        fits = tokens is not None and tokens <= most
        too_few, enough = (too_few, place) if fits else (place, enough)
    return enough


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
