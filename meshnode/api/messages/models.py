"""Models as Anthropic's API lists them: ``GET /v1/models`` and ``/v1/models/{id}``. Pure.

Source: Anthropic's API reference, "Models". What this node knows beyond that stays beside it, as in OpenAI's shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from meshnode.api.fields import invalid

Shown = dict[str, Any]
USUAL: Final = 20
"""Models of a page unless the client says how many."""
MOST: Final = 1000
_OF_OPENAI: Final = frozenset({"object", "created"})


def info(entry: Mapping[str, Any], name: str = "") -> Shown:
    """A model of OpenAI's shape in Anthropic's; ``name`` is what people call it."""
    beside = {field: value for field, value in entry.items() if field not in _OF_OPENAI}
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": name or entry["id"],
        "created_at": datetime.fromtimestamp(entry["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "capabilities": None,
        "max_input_tokens": entry["context_length"],
        "max_tokens": entry["context_length"],
        **beside,
    }


def page(shown: Sequence[Shown], query: Mapping[str, str]) -> Shown:
    """The part of a list that ``limit``, ``after_id`` and ``before_id`` ask for. Raises InvalidField."""
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise invalid("before_id", before, "left out beside after_id")
    ids = [str(model["id"]) for model in shown]
    if before:
        end = _place(ids, before, "before_id")
        part, more = shown[max(0, end - limit) : end], end > limit
    else:
        begin = _place(ids, after, "after_id") + 1 if after else 0
        part, more = shown[begin : begin + limit], len(shown) > begin + limit
    return {
        "data": list(part),
        "has_more": more,
        "first_id": part[0]["id"] if part else None,
        "last_id": part[-1]["id"] if part else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST):
        raise invalid("limit", text, f"a whole number from 1 to {MOST}")
    return int(text)


def _place(ids: Sequence[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise invalid(param, wanted, "the id of a model of the list")
    return ids.index(wanted)
