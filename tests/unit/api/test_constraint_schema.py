"""The many ways to say what form an answer must have, and the one that comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.api.constraint_schema import MAX_SOURCE, ConstraintFields, constraint
from meshnode.domain import Constraint, ConstraintKind
from meshnode.errors import InvalidField, RequestError, UnknownField

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA)
OF_SCHEMA = Constraint(kind=ConstraintKind.JSON_SCHEMA, source=TEXT)


def asked(response_format: dict[str, Any] | None = None, **fields: Any) -> Constraint | None:
    return constraint(ConstraintFields(**fields), response_format)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, None),
        ({"grammar": ""}, None),
        ({"grammar": "root ::= x"}, Constraint(kind=ConstraintKind.GRAMMAR, source="root ::= x")),
        ({"guided_grammar": "root ::= x"}, Constraint(kind=ConstraintKind.GRAMMAR, source="root ::= x")),
        ({"guided_regex": "a+"}, Constraint(kind=ConstraintKind.REGEX, source="a+")),
        ({"guided_choice": ["a", "é"]}, Constraint(kind=ConstraintKind.CHOICE, source='["a", "é"]')),
        ({"json_schema": SCHEMA}, OF_SCHEMA),
        ({"guided_json": SCHEMA}, OF_SCHEMA),
        ({"guided_json": TEXT}, OF_SCHEMA),
        ({"structured_outputs": {}}, None),
        ({"structured_outputs": {"json": SCHEMA}}, OF_SCHEMA),
        ({"structured_outputs": {"regex": "a"}}, Constraint(kind=ConstraintKind.REGEX, source="a")),
        ({"structured_outputs": {"json_object": True}}, Constraint(kind=ConstraintKind.JSON_OBJECT)),
    ],
)
def test_every_dialects_words(fields: dict[str, Any], found: Constraint | None) -> None:
    assert asked(**fields) == found


def test_response_formats() -> None:
    assert asked({"type": "text"}) is None
    assert asked({"type": "json_object"}) == Constraint(kind=ConstraintKind.JSON_OBJECT)
    given = {"name": "n", "schema": SCHEMA, "strict": True, "description": "d"}
    found = asked({"type": "json_schema", "json_schema": given})
    assert found == Constraint(kind=ConstraintKind.JSON_SCHEMA, source=TEXT, name="n", strict=True)
    free = asked({"type": "json_schema", "json_schema": {"name": "n"}})
    assert free == Constraint(kind=ConstraintKind.JSON_SCHEMA, source="true", name="n")


@pytest.mark.parametrize(
    ("response_format", "fields", "kind", "param"),
    [
        ({"type": "xml"}, {}, InvalidField, "response_format.type"),
        ({}, {}, InvalidField, "response_format.type"),
        ({"type": "json_object", "x": 1}, {}, UnknownField, "response_format.x"),
        ({"type": "json_schema"}, {}, InvalidField, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, {}, InvalidField, "response_format.json_schema.name"),
        (
            {"type": "json_schema", "json_schema": {"name": "a b"}},
            {},
            InvalidField,
            "response_format.json_schema.name",
        ),
        ({"type": "json_object"}, {"grammar": "g"}, InvalidField, "response_format"),
        (None, {"grammar": "g", "guided_regex": "r"}, InvalidField, "guided_regex"),
        (None, {"guided_json": "{"}, InvalidField, "guided_json"),
        (None, {"guided_json": "[1]"}, InvalidField, "guided_json"),
        (None, {"json_schema": {"d": "x" * MAX_SOURCE}}, InvalidField, "json_schema"),
        (None, {"guided_choice": ["x" * MAX_SOURCE, "y"]}, InvalidField, "guided_choice"),
        (None, {"structured_outputs": {"tags": 1}}, UnknownField, "structured_outputs.tags"),
        (None, {"structured_outputs": {"choice": []}}, InvalidField, "structured_outputs.choice"),
    ],
)
def test_what_is_wrong_is_named(
    response_format: dict[str, Any] | None, fields: dict[str, Any], kind: type[RequestError], param: str
) -> None:
    with pytest.raises(kind) as caught:
        asked(response_format, **fields)
    assert caught.value.param == param
