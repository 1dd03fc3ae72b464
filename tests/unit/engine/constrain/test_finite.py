"""Which recursive schemas have a value that ends."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.engine.constrain.finite import endless

SELF = {"$ref": "r"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["object"], "properties": {"next": SELF}},
        {"type": ["object"], "properties": {"next": {"anyOf": [SELF, {"type": "null"}]}}, "required": ["next"]},
        {"type": ["array"], "items": SELF},
        {"type": ["array", "null"], "items": SELF, "minItems": 1},
        {"anyOf": [SELF, {"type": ["string"]}]},
        {"enum": [1]},
        True,
        {"type": ["object"], "required": ["x"], "patternProperties": {"x": True}, "additionalProperties": SELF},
    ],
)
def test_what_can_end(schema: Any) -> None:
    assert endless({"r": schema}) == []


@pytest.mark.parametrize(
    "schema",
    [
        SELF,
        {"type": ["object"], "properties": {"next": SELF}, "required": ["next"]},
        {"type": ["array"], "items": SELF, "minItems": 1},
        {"type": ["array"], "prefixItems": [SELF], "minItems": 1},
        {"anyOf": [SELF, {"allOf": [SELF]}]},
        {"allOf": [{"type": ["string"]}, SELF]},
        {"type": ["object"], "required": ["x"], "additionalProperties": SELF},
        {"type": ["object"], "minProperties": 1, "additionalProperties": SELF},
        False,
    ],
)
def test_what_cannot(schema: Any) -> None:
    assert endless({"r": schema}) == ["r"]


def test_definitions_that_lead_in_a_circle() -> None:
    assert endless({"a": {"$ref": "b"}, "b": {"$ref": "a"}, "c": {"type": ["null"]}}) == ["a", "b"]
