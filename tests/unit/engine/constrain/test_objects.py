"""Objects' properties."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.domain import ConstraintKind
from tests.kit.constrained import by_schema, fits, refusal, takes

NUMBER = {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "taken", "not_taken"),
    [
        ({"properties": {"a": NUMBER}}, [{}, {"a": 1}, {"b": "x"}, {"a": 1, "b": 2}], [{"a": "x"}]),
        ({"properties": {"a": NUMBER}, "required": ["a"]}, [{"a": 1}], [{}, {"b": 1}]),
        ({"properties": {"a": NUMBER}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 1}]),
        ({"additionalProperties": NUMBER}, [{}, {"x": 1, "y": 2}], [{"x": "y"}]),
        ({"patternProperties": {"^n": NUMBER}}, [{"n1": 1}, {"x": "y"}], [{"n1": "x"}]),
        ({"patternProperties": {"^n": NUMBER}, "additionalProperties": False}, [{"n": 1}], [{"x": 1}]),
        ({"required": ["a"]}, [{"a": None}], [{}, {"b": 1}]),
        ({"propertyNames": {"pattern": "^[a-c]$"}}, [{}, {"a": 1}], [{"d": 1}, {"ab": 1}]),
        ({"propertyNames": {"enum": ["a.b"]}}, [{"a.b": 1}], [{"axb": 1}]),
        ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
        ({"propertyNames": {"format": "date"}}, [{"2024-01-01": 1}], [{"2024": 1}]),
        ({"propertyNames": False}, [{}], [{"a": 1}]),
        ({"minProperties": 1}, [{"a": 1}], [{}]),
        ({"maxProperties": 1}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
        ({"properties": {"a": NUMBER}, "unevaluatedProperties": False}, [{"a": 1}], [{"b": 1}]),
    ],
)
def test_keywords_hold(schema: dict[str, Any], taken: list[Any], not_taken: list[Any]) -> None:
    matcher = by_schema({"type": "object", **schema})
    assert [value for value in taken if not fits(matcher, json.dumps(value))] == []
    assert [value for value in not_taken if fits(matcher, json.dumps(value))] == []


def test_a_required_name_cannot_be_written_in_disguise() -> None:
    matcher = by_schema({"type": "object", "properties": {"a": NUMBER}, "required": ["a"]})
    assert not fits(matcher, '{"a": 1, "\\u0061": "x"}')
    assert not fits(matcher, '{"a": 1, "a": "x"}')


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"required": "a"}, "required"),
        ({"properties": []}, "properties"),
        ({"propertyNames": {"pattern": "a", "maxLength": 3}}, "propertyNames"),
        ({"propertyNames": {"pattern": "a"}, "properties": {"b": True}}, "propertyNames"),
        ({"propertyNames": 5}, "propertyNames"),
        ({"minProperties": 2}, "minProperties"),
        ({"minProperties": 2, "maxProperties": 1}, "minProperties"),
        ({"maxProperties": 1, "properties": {"a": True, "b": True}}, "maxProperties"),
        ({"minProperties": -1}, "minProperties"),
        ({"patternProperties": {"(": True}}, "patternProperties"),
        ({"patternProperties": {f"^{number}$": True for number in range(31)}}, "patternProperties"),
        ({"properties": {f"p{number}": True for number in range(1001)}}, "properties"),
        ({"allOf": [True], "unevaluatedProperties": False}, "unevaluatedProperties"),
    ],
)
def test_what_is_not_held_is_refused_at_its_place(schema: dict[str, Any], keyword: str) -> None:
    said = refusal(ConstraintKind.JSON_SCHEMA, json.dumps({"properties": {"in": {"type": "object", **schema}}}))
    assert f"{keyword} at #/properties/in" in said


def test_a_thousand_optional_properties_are_held() -> None:
    schema = {"type": "object", "properties": {f"p{number}": NUMBER for number in range(1000)}}
    assert takes(schema, {"p0": 1, "p999": 2})
