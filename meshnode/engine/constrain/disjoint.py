"""Whether no value can fit two schemas: what makes ``oneOf`` the same as ``anyOf``. Pure.

``oneOf`` wants exactly one of its options to fit, which no grammar can count. Where any two of them exclude each other,
as the tagged unions that programs write do, at most one can fit, and any of them will do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any] | bool
_LOOKS = 8
"""References and conjunctions to follow before giving up."""


def disjoint(
    left: Schema, right: Schema, defs: Mapping[str, Schema], budget: Iterator[int], looks: int = _LOOKS
) -> bool:
    """True if surely no value fits both canonical schemas; False is no proof of anything.

    ``budget`` gives an item for each comparison; once it has no more, nothing is sure. Many calls may share one.
    """
    if left is False or right is False:
        return True
    if left is True or right is True or not looks or next(budget, None) is None:
        return False
    for one, other in ((left, right), (right, left)):
        parts = list(one.get("allOf", ()))
        if "$ref" in one:
            parts.append(defs.get(one["$ref"], True))
        if any(disjoint(part, other, defs, budget, looks - 1) for part in parts):
            return True
        if "anyOf" in one and all(disjoint(option, other, defs, budget, looks - 1) for option in one["anyOf"]):
            return True
    values = _values(left), _values(right)
    if values[0] is not None and values[1] is not None:
        return not values[0] & values[1]
    both = _types(left) & _types(right)
    return not both or (both == {"object"} and _told_apart(left, right, defs, budget, looks))


def _told_apart(
    left: Mapping[str, Any], right: Mapping[str, Any], defs: Mapping[str, Schema], budget: Iterator[int], looks: int
) -> bool:
    """Whether a property that one of them demands cannot fit both."""
    names = [*left.get("required", ()), *right.get("required", ())]
    return any(
        disjoint(left["properties"][name], right["properties"][name], defs, budget, looks - 1)
        for name in names
        if name in left.get("properties", {}) and name in right.get("properties", {})
    )


def _values(schema: Mapping[str, Any]) -> set[str] | None:
    """The only values that fit, written so that equal ones are equal; ``None`` where there is no list."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if listed is None else {_written(value) for value in listed}


def _written(value: Any) -> str:
    """One text for what JSON Schema calls equal: 1 and 1.0 are, true and 1 are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        return json.dumps({key: _written(each) for key, each in sorted(value.items())})
    return json.dumps([_written(each) for each in value] if isinstance(value, list) else value)


def _types(schema: Mapping[str, Any]) -> set[str]:
    """Types that may fit; whole numbers are numbers."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        return {type_of(value) for value in values}
    named = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    return {"number" if each == "integer" else each for each in ([named] if isinstance(named, str) else named)}


def type_of(value: Any) -> str:
    """JSON Schema's name for a value's type; every number is ``number``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"
