"""Keywords about objects: names, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.engine.constrain.matcher import Constrainer
from meshnode.engine.constrain.objects import MAX_PROPERTIES
from tests.kit.constraints import BYTES, fits, refusal, schema

CONSTRAINER = Constrainer(BYTES)
NUMBERS = {"additionalProperties": {"type": "integer"}}


def takes(given: dict[str, Any], text: str) -> bool:
    """Whether an object's schema takes a text."""
    return fits(CONSTRAINER.compile(schema({"type": "object", **given})), text)


def test_a_name_cannot_be_written_twice_in_disguise() -> None:
    named = {"properties": {"a": {"type": "integer"}}}
    assert takes(named, '{"a": 1, "b": "x"}')
    assert not takes(named, '{"a": 1, "\\u0061": "x"}')
    assert not takes(named, '{"a": 1, "a": "x"}')


@pytest.mark.parametrize(
    ("names", "good", "bad"),
    [
        ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
        ({"pattern": "^x-"}, "x-a", "y"),
        ({"enum": ["a", "b.c"]}, "b.c", "bxc"),
        ({"const": "a"}, "a", "b"),
        ({"minLength": 2, "maxLength": 3}, "abc", "a"),
        ({"$ref": "#/$defs/name"}, "ok", "no"),
        (True, "any", None),
        (False, None, "any"),
    ],
)
def test_names_are_restricted(names: Any, good: str | None, bad: str | None) -> None:
    given = {"propertyNames": names, "$defs": {"name": {"enum": ["ok"]}}, **NUMBERS}
    assert good is None or takes(given, f'{{"{good}": 1}}')
    assert bad is None or not takes(given, f'{{"{bad}": 1}}')
    assert good is None or not takes(given, f'{{"{good}": "x"}}')


def test_patterns_and_names_hold_together() -> None:
    given = {
        "properties": {"id_x": {"minimum": 5}},
        "patternProperties": {"^id_": {"type": "integer"}},
        "additionalProperties": {"type": "string"},
    }
    assert takes(given, '{"id_x": 6, "id_y": 1, "z": "a"}')
    assert not takes(given, '{"id_x": 1}')
    assert not takes(given, '{"id_y": "a"}')
    assert not takes(given, '{"z": 1}')


def test_few_and_many_properties_are_counted_where_equal_names_cannot_cheat() -> None:
    assert not takes({"minProperties": 1, **NUMBERS}, "{}")
    assert takes({"minProperties": 1, **NUMBERS}, '{"a": 1}')
    assert not takes({"maxProperties": 1, **NUMBERS}, '{"a": 1, "b": 2}')
    either = {
        "properties": {"a": True, "b": True},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    assert takes(either, '{"b": 1}')
    assert not takes(either, "{}")
    assert not takes(either, '{"a": 1, "b": 2}')


@pytest.mark.parametrize(
    ("given", "keyword"),
    [
        ({"minProperties": 2}, "minProperties at #"),
        ({"minProperties": 3, "maxProperties": 2}, "minProperties at #"),
        ({"properties": {"a": True}, "maxProperties": 5}, "maxProperties at #"),
        ({"properties": {"a": True}, "minProperties": 1}, "minProperties at #"),
        ({"properties": {"a": True}, "propertyNames": {"pattern": "x"}}, "propertyNames at #"),
        ({"propertyNames": {"pattern": "x", "minLength": 2}}, "propertyNames at #"),
        ({"propertyNames": []}, "propertyNames at #"),
        ({"properties": []}, "properties at #"),
        ({"patternProperties": {"(": True}}, "patternProperties at #"),
        ({"patternProperties": {"a": True, "b": True}}, "not disjoint"),
        ({"required": "a"}, "required at #"),
        ({"required": True}, "required at #"),
        ({"properties": {f"p{number}": True for number in range(MAX_PROPERTIES + 1)}}, "properties at #"),
    ],
)
def test_what_cannot_be_counted_or_told_apart_is_refused(given: dict[str, Any], keyword: str) -> None:
    assert keyword in refusal(CONSTRAINER, schema({"type": "object", **given}))
