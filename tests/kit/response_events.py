"""The order of a Responses stream as a small state machine, written from the house's description of it, and the SDK's
types for each event. Knows nothing of the renderer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

Told = Mapping[str, Any]

_EVENT: TypeAdapter[object] = TypeAdapter(ResponseStreamEvent)
_LAST = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.failed",
}
_PART_OF = {
    "output_text": ("response.output_text.delta", "response.output_text.done", "text"),
    "refusal": ("response.refusal.delta", "response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.delta", "response.reasoning_text.done", "text"),
}
_CALLS = {
    "function_call": ("response.function_call_arguments.delta", "response.function_call_arguments.done", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input.delta", "response.custom_tool_call_input.done", "input"),
}


def checked(events: Sequence[Told], *, background: bool = False, first: int = 0) -> Told:
    """The response that a whole stream came to, its order and every event checked; ``first``: its first number."""
    for number, event in enumerate(events):
        assert event["sequence_number"] == first + number, event
        validated(event)
    opening = ["response.created", *(["response.queued"] if background else []), "response.in_progress"]
    assert [event["type"] for event in events[: len(opening)]] == opening
    *middle, last = events[len(opening) :]
    items = _items(middle)
    final: Told = last["response"]
    assert last["type"] == _LAST[final["status"]]
    assert final["output"] == items
    assert {event["response"]["id"] for event in (*events[: len(opening)], last)} == {final["id"]}
    assert len({item["id"] for item in items}) == len(items)
    return final


def validated(event: Told) -> None:
    """Strictly of the type that the SDK has for it."""
    _EVENT.validate_python(event, strict=True)
    if "response" in event:
        Response.model_validate(event["response"], strict=True)


def _items(events: Iterable[Told]) -> list[Told]:
    """The items of a stream, each told whole before the next one begins."""
    items: list[Told] = []
    rest = list(events)
    while rest:
        added = rest.pop(0)
        assert added["type"] == "response.output_item.added", added
        assert added["output_index"] == len(items)
        assert added["item"]["status"] == "in_progress"
        end = next(index for index, event in enumerate(rest) if event["type"] == "response.output_item.done")
        inner, done, rest = rest[:end], rest[end], rest[end + 1 :]
        assert done["output_index"] == len(items)
        assert all(event["item_id"] == done["item"]["id"] for event in inner)
        assert all(event["output_index"] == len(items) for event in inner)
        for name in ("id", "type", "role", "call_id", "name", "namespace"):
            assert added["item"].get(name) == done["item"].get(name)
        assert done["item"]["status"] in ("completed", "incomplete")
        _inside(inner, done["item"])
        items.append(done["item"])
    return items


def _inside(inner: Sequence[Told], item: Told) -> None:
    """What stands between the beginning of an item and its end."""
    if item["type"] in _CALLS:
        delta_type, done_type, name = _CALLS[item["type"]]
        assert [event["type"] for event in inner] == [delta_type] * (len(inner) - 1) + [done_type]
        assert "".join(event["delta"] for event in inner[:-1]) == inner[-1][name] == item[name]
        return
    parts: list[Told] = []
    rest = list(inner)
    while rest:
        added = rest.pop(0)
        assert added["type"] == "response.content_part.added", added
        end = next(index for index, event in enumerate(rest) if event["type"] == "response.content_part.done")
        grown, done, rest = rest[:end], rest[end], rest[end + 1 :]
        assert {event["content_index"] for event in (added, *grown, done)} == {len(parts)}
        delta_type, done_type, name = _PART_OF[done["part"]["type"]]
        assert added["part"][name] == ""
        assert [event["type"] for event in grown] == [delta_type] * (len(grown) - 1) + [done_type]
        assert "".join(event["delta"] for event in grown[:-1]) == grown[-1][name] == done["part"][name]
        parts.append(done["part"])
    assert parts == item["content"]
