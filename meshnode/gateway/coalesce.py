"""Fewer events that say the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from meshnode.events import (
    STANDING,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)


def coalesce(events: Iterable[Event]) -> list[Event]:
    """Neighbouring text of one choice, or arguments of one call, joined.

    What one engine step or a slow client piled up is then one chunk.
    """
    joined: list[Event] = []
    alike: list[Event] = []
    for event in events:
        if alike and not _alike(alike[-1], event):
            joined.append(_one(alike))
            alike = []
        alike.append(event)
    return [*joined, _one(alike)] if alike else joined


def lasting(events: Iterable[Event]) -> list[Event]:
    """What is worth keeping of these: no waits, no token ids, which count for one engine only."""
    return [_bare(event) for event in events if not isinstance(event, STANDING)]


def _alike(one: Event, other: Event) -> bool:
    if isinstance(one, ToolCallDelta):
        return isinstance(other, ToolCallDelta) and (one.choice, one.index) == (other.choice, other.index)
    return isinstance(one, TextDelta | ReasoningDelta) and type(one) is type(other) and one.choice == other.choice


def _one(alike: Sequence[Event]) -> Event:
    first = alike[0]
    if len(alike) == 1:
        return first
    if isinstance(first, ToolCallDelta):
        arguments = "".join(event.arguments for event in alike if isinstance(event, ToolCallDelta))
        return ToolCallDelta(first.index, arguments, first.choice)
    if isinstance(first, ReasoningDelta):
        return ReasoningDelta("".join(e.text for e in alike if isinstance(e, ReasoningDelta)), first.choice)
    deltas = [event for event in alike if isinstance(event, TextDelta)]
    logprobs = tuple(one for delta in deltas for one in delta.logprobs)
    return TextDelta("".join(delta.text for delta in deltas), deltas[0].choice, (), logprobs)


def _bare(event: Event) -> Event:
    if isinstance(event, TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta) and event.token_ids:
        return msgspec.structs.replace(event, token_ids=())
    return event
