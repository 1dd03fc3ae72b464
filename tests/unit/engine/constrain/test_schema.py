"""Schemas in canonical form: every keyword held, without effect, or refused by name and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.matcher import Constrainer
from meshnode.engine.constrain.schema import ANNOTATIONS, MAX_EXCLUSIVE, MAX_NODES, REFUSED, canonical
from tests.kit.constraints import BYTES, complaint, constraint, fits, orders, refusal, schema, suite, written

CONSTRAINER = Constrainer(BYTES)
jsonschema = pytest.importorskip("jsonschema")


def takes(given: Any, value: Any) -> bool:
    """Whether a schema takes a value, in some order of its properties."""
    matcher = CONSTRAINER.compile(schema(given))
    return any(fits(matcher, json.dumps(each, ensure_ascii=False)) for each in orders(value))


# --- the public suite -------------------------------------------------------------------------


def test_nothing_in_the_public_suite_is_held_loosely() -> None:
    held = right = 0
    loose: list[tuple[str, str, str]] = []
    for file, case in suite():
        if said := complaint(CONSTRAINER, schema(case["schema"])):
            assert said.startswith("json_schema")
            continue
        matcher = CONSTRAINER.compile(schema(case["schema"]))
        held += 1
        for test in case["tests"]:
            taken = any(fits(matcher, json.dumps(each, ensure_ascii=False)) for each in orders(test["data"]))
            right += taken == test["valid"]
            if taken and not test["valid"]:
                loose.append((file, case["description"], test["description"]))
    assert not loose
    assert held >= 224
    assert right >= 850


# --- keyword by keyword -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        ({"type": ["string", "null"]}, None, 1),
        ({"type": "string", "nullable": True}, None, 1),
        ({"const": {"a": [1, None]}}, {"a": [1, None]}, {"a": [1]}),
        ({"enum": ["x", 1.5, None]}, 1.5, "y"),
        ({"type": "integer", "enum": [1.5, 2]}, 2, 1.5),
        ({"enum": [1, 2], "const": 2}, 2, 1),
        ({"type": "integer", "minimum": 3, "maximum": 12}, 12, 13),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5, 1),
        ({"type": "integer", "multipleOf": 7}, 21, 22),
        ({"type": "number", "multipleOf": 0.25}, 0.75, 0.3),
        ({"type": "integer", "format": "uint8"}, 255, 256),
        ({"type": "integer", "format": "int64"}, 5, "5"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "éé", "é"),
        ({"type": "string", "pattern": "^a.c$"}, "abc", "abcd"),
        ({"type": "string", "pattern": "b"}, "abc", "ac"),
        ({"type": "string", "pattern": "^a", "format": "email"}, "a@b.de", "b@b.de"),
        ({"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}, "-1.5", "-."),
        ({"type": "string", "format": "password"}, "x", 1),
        ({"type": "integer", "format": "whatever"}, 1, "x"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [1, 2], [1, 2, 3]),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, [1], [1, 2]),
        ({"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}}, [1, "a"], [1, 2]),
        ({"type": "array", "prefixItems": [True], "unevaluatedItems": False}, [1], [1, 2]),
        ({"type": "array", "uniqueItems": True, "maxItems": 1}, [1], [1, 2]),
        ({"type": "object", "properties": {"a": True}, "unevaluatedProperties": False}, {"a": 1}, {"b": 1}),
        ({"allOf": [{"type": "integer"}, {"minimum": 2}]}, 2, 1),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "oneOf": [{"const": 1}, {"const": 2}]}, 2, None),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, 1, None),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, None, 1),
        ({"$ref": "#/definitions/a", "minimum": 3, "definitions": {"a": {"type": "integer"}}}, 3, 2),
        (
            {"type": "object", "properties": {"c": {"$ref": "#"}}, "additionalProperties": False},
            {"c": {"c": {}}},
            {"d": 1},
        ),
        ({"type": "integer", "x-anything": 1, "title": "t", "examples": [1]}, 1, "a"),
        (True, [{}], ...),
    ],
)
def test_a_keyword_is_held(given: Any, good: Any, bad: Any) -> None:
    assert takes(given, good)
    assert bad is ... or not takes(given, bad)


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_what_is_not_held_is_named_with_its_place(keyword: str) -> None:
    given = {"type": "object", "properties": {"a/b": {keyword: {}}}}
    assert f"{keyword} at #/properties/a~1b cannot be held" in refusal(CONSTRAINER, schema(given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type": "list"}, "type at #: one or more of null"),
        ({"type": "string", "pattern": "(?=x)"}, "pattern at # cannot be held"),
        ({"type": "string", "pattern": 5}, "pattern at #"),
        ({"type": "string", "format": "color"}, "format at # ('color')"),
        ({"format": 1}, "format at #"),
        ({"items": {"uniqueItems": True}}, "uniqueItems at #/items"),
        ({"anyOf": [{"type": "string"}, {"oneOf": [{"minimum": 1}, {"maximum": 2}]}]}, "oneOf at #/anyOf/1"),
        ({"oneOf": [{"type": "string"}] * (MAX_EXCLUSIVE + 1)}, "oneOf at # is too complex"),
        ({"anyOf": []}, "anyOf at #"),
        ({"$ref": 1}, "$ref at #"),
        ({"$ref": "https://example.com/s.json"}, "$ref at # ('https://example.com/s.json')"),
        ({"$ref": "#/$defs/gone"}, "$ref at # ('#/$defs/gone')"),
        ({"properties": {"a": {"$id": "x"}}}, "$id at #/properties/a"),
        ({"$ref": "#/$defs/a", "unevaluatedProperties": False, "$defs": {"a": {}}}, "unevaluatedProperties at #"),
        ({"properties": {"a": 1}}, "the schema at #/properties/a"),
        ({"$ref": "#"}, "the schema at #: no value that ends"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "no value that ends",
        ),
        (False, "no value that ends"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no text fits"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "no text fits"),
        ({"type": "string", "const": 1}, "const at #"),
        ({"allOf": [{"anyOf": [{"required": [f"p{i}{j}"]} for j in range(9)]} for i in range(9)]}, "too complex"),
        ({"items": {"anyOf": [{"type": "array", "items": {"minimum": n}} for n in range(400)]}, "x": 1}, ""),
        ("no object", "the schema at #"),
    ],
)
def test_a_refusal_says_where(given: Any, said: str) -> None:
    if said:
        assert said in refusal(CONSTRAINER, schema(given if not isinstance(given, str) else json.dumps(given)))
    else:
        CONSTRAINER.compile(schema(given))


def test_the_number_of_schemas_is_bounded() -> None:
    nested: Any = {"allOf": [{"anyOf": [True] * 100} for _ in range(MAX_NODES // 100)]}
    assert f"more than {MAX_NODES} schemas" in refusal(CONSTRAINER, schema(nested))


def test_keywords_nobody_knows_are_refused_where_strict_only() -> None:
    given = {"type": "string", "maxLenght": 3}
    CONSTRAINER.compile(schema(given))
    strict = constraint(ConstraintKind.JSON_SCHEMA, given, strict=True)
    assert "maxLenght at # cannot be held" in refusal(CONSTRAINER, strict)
    CONSTRAINER.compile(
        constraint(ConstraintKind.JSON_SCHEMA, {"type": "string", "x-mine": 1, "title": ""}, strict=True)
    )


def test_settings_of_the_library_cannot_be_smuggled_in() -> None:
    given = {"x-guidance": {"lenient": True}, "type": "string", "format": "nonsense"}
    assert "format at #" in refusal(CONSTRAINER, schema(given))
    assert "x-guidance" not in canonical(json.dumps({"x-guidance": {}, "type": "null"}))


def test_annotations_change_nothing() -> None:
    plain = canonical('{"type": "string"}')
    for keyword in ANNOTATIONS - {"nullable", "$id"}:
        assert canonical(json.dumps({"type": "string", keyword: {}})) == plain


# --- what is written fits ---------------------------------------------------------------------

WRITTEN: list[Any] = [
    {"type": "number"},
    {"type": "number", "minimum": -3.25, "exclusiveMaximum": 1e15},
    {"type": "number", "exclusiveMinimum": 0.001, "maximum": 0.0075},
    {"type": "integer", "minimum": -105, "maximum": 1999},
    {"type": "integer", "exclusiveMinimum": 99, "multipleOf": 12},
    {"enum": [1, 1.5, -0.001, 1e-7, 123456789.125, 1e15, "a\nb", 'q"\\', None, True, [1, []], {"a": {"b": "c/é"}}]},
    {"type": "object", "properties": {'k"\n\\': {"type": "null"}}, "required": ['k"\n\\']},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3},
    {"type": "object", "patternProperties": {r"^\d+$": {"type": "boolean"}}, "additionalProperties": False},
    {"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 2}]}, "minItems": 2},
    {"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"type": "array", "maxItems": 1}]},
    {"type": "string", "pattern": r"^[A-Z]{2}\d{2,4}([a-z ]?){3}$"},
    {"type": "object", "required": ["z"], "properties": {"a": {"type": "null"}, "b": {"type": "null"}}},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"minimum": 3}}}], "type": "object"},
    {},
]


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_whatever_ends_is_valid(number: int) -> None:
    matcher = CONSTRAINER.compile(schema(WRITTEN[number]))
    ended = [text for seed in range(25) if (text := written(matcher, seed)) is not None]
    assert len(ended) >= 10
    for text in ended:
        jsonschema.validate(json.loads(text), WRITTEN[number])
