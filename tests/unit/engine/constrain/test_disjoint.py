"""Which schemas exclude each other."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.engine.constrain.disjoint import disjoint, type_of

TAG_A = {"type": ["object"], "properties": {"kind": {"enum": ["a"]}}, "required": ["kind"]}
TAG_B = {"type": ["object"], "properties": {"kind": {"enum": ["b"]}}, "required": ["kind"]}
LOOSE = {"type": ["object"], "properties": {"kind": {"enum": ["b"]}}}
DEFS: dict[str, Any] = {"#/$defs/r0": TAG_A, "#/$defs/r1": TAG_B, "#/$defs/r2": {"$ref": "#/$defs/r2"}}


@pytest.mark.parametrize(
    ("left", "right", "excluded"),
    [
        ({"type": ["string"]}, {"type": ["null"]}, True),
        ({"type": ["integer"]}, {"type": ["number"]}, False),
        ({"type": ["string", "null"]}, {"type": ["null"]}, False),
        ({"enum": [1]}, {"enum": [1.0]}, False),
        ({"enum": [1]}, {"enum": [True]}, True),
        ({"enum": [{"a": 1, "b": 2}]}, {"enum": [{"b": 2, "a": 1.0}]}, False),
        ({"enum": ["a"]}, {"type": ["string"]}, False),
        ({"enum": ["a"]}, {"type": ["integer"]}, True),
        (TAG_A, TAG_B, True),
        (TAG_A, LOOSE, True),
        (LOOSE, LOOSE, False),
        ({"$ref": "#/$defs/r0"}, {"$ref": "#/$defs/r1"}, True),
        ({"$ref": "#/$defs/r0"}, {"$ref": "#/$defs/r0"}, False),
        ({"$ref": "#/$defs/r2"}, {"type": ["null"]}, False),
        ({"allOf": [{"type": ["string"]}, {"minLength": 1}]}, {"type": ["null"]}, True),
        ({"anyOf": [TAG_A, {"type": ["null"]}]}, TAG_B, True),
        ({"anyOf": [TAG_A, {"type": ["object"]}]}, TAG_B, False),
        (False, True, True),
        (True, {"type": ["null"]}, False),
    ],
)
def test_only_what_surely_excludes_is_said_to(left: Any, right: Any, excluded: bool) -> None:
    assert disjoint(left, right, DEFS) is excluded
    assert disjoint(right, left, DEFS) is excluded


def test_types_have_their_names() -> None:
    examples: list[Any] = [None, True, 1, 1.5, "", [], {}]
    named = [type_of(value) for value in examples]
    assert named == ["null", "boolean", "number", "number", "string", "array", "object"]
