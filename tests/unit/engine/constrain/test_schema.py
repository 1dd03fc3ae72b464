"""JSON schemas: what is held, what is an annotation, what is refused."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pydantic
import pytest

from meshnode.domain import ConstraintKind
from meshnode.engine.constrain.schema import ANNOTATIONS, MAX_LEVELS, REFUSED, canonical
from tests.kit.constrained import by_schema, fits, held, refusal, takes

NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]}


@pytest.mark.parametrize(
    ("schema", "taken", "not_taken"),
    [
        (True, [1, "a", {"b": [None]}], []),
        ({"type": "integer"}, [0, -12], [1.5, "1", None]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"enum": ["a", 1, None, [1], {"b": True}]}, ["a", 1, None, [1], {"b": True}], ["b", 2, False, [], {}]),
        ({"const": "é"}, ["é"], ["e"]),
        ({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}, [-3, 0, 11], [-4, 12, 100]),
        ({"type": "number", "exclusiveMinimum": 0.5, "maximum": 2}, [0.6, 1, 2.0], [0.5, 2.1]),
        ({"type": "number", "multipleOf": 0.25}, [0.25, -1.75, 3], [0.3]),
        ({"type": "integer", "multipleOf": 7}, [0, 7, -21], [8]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["aé", "😀😀😀"], ["a", "abcd"]),
        ({"type": "string", "pattern": "^a+$", "maxLength": 2}, ["a", "aa"], ["b", "aaa", ""]),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2}, [[None]], [[], [1], [None] * 3]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, [[], [1]], [[2], [1, 1]]),
        ({"type": "array", "items": [{"const": 1}], "additionalItems": {"const": 2}}, [[1, 2, 2]], [[2], [1, 1]]),
        ({"type": "array", "maxItems": 1, "uniqueItems": True}, [[1]], [[1, 1]]),
        ({"anyOf": [{"type": "string", "maxLength": 1}, {"type": "integer"}]}, ["a", 5], ["ab", None]),
        ({"oneOf": [{"type": "string"}, {"type": "array"}]}, ["a", []], [1]),
        ({"allOf": [{"minimum": 3}, {"maximum": 5}], "type": "integer"}, [3, 5], [2, 6]),
        ({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a", "maxLength": 1}, ["a"], ["ab", 1]),
        (NODE, [{"next": None}, {"next": {"next": None}}], [{}, {"next": 1}]),
        ({"then": False, "else": False, "minContains": 5, "unknown": {"type": "null"}}, [1], []),
    ],
)
def test_what_is_held(schema: Any, taken: list[Any], not_taken: list[Any]) -> None:
    matcher = by_schema(schema)
    assert [value for value in taken if not fits(matcher, json.dumps(value, ensure_ascii=False))] == []
    assert [value for value in not_taken if fits(matcher, json.dumps(value, ensure_ascii=False))] == []


@pytest.mark.parametrize("keyword", sorted(ANNOTATIONS - {"$defs", "definitions", "nullable", "$id", "id"}))
def test_annotations_change_nothing(keyword: str) -> None:
    assert canonical(json.dumps({"type": "string", keyword: "x"})) == canonical('{"type": "string"}')


@pytest.mark.parametrize("keyword", sorted(REFUSED))
def test_what_is_not_held_is_refused_by_name_and_place(keyword: str) -> None:
    schema: Any = {"properties": {"a/b": {"anyOf": [{keyword: {}}]}}}
    assert f"{keyword} at #/properties/a~1b/anyOf/0" in refusal(ConstraintKind.JSON_SCHEMA, json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (5, "schema at #"),
        ({"type": "colour"}, "type at #"),
        ({"properties": {"a": 5}}, "#/properties/a"),
        ({"items": {"minLength": -1}}, "minLength at #/items"),
        ({"pattern": "("}, "pattern at #"),
        ({"pattern": 5}, "pattern at #"),
        ({"format": 5}, "format at #"),
        ({"anyOf": []}, "anyOf at #"),
        ({"anyOf": [{}] * 501}, "anyOf at #"),
        ({"$ref": 5}, "$ref at #"),
        ({"$ref": "#/nowhere"}, "nothing stands there"),
        ({"$ref": "https://example.com/schema"}, "only places in the same schema"),
        ({"$ref": "#"}, "no value that ends"),
        ({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}, "no value that ends"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems at #"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "oneOf at # cannot be held: options 0 and 1"),
        ({"oneOf": [{"const": index} for index in range(101)]}, "oneOf at #"),
        ({"maximum": 2**60}, "maximum at #"),
        ({"type": "integer", "multipleOf": 999983}, "multipleOf at #"),
        ({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}], "type": "integer"}, "multipleOf at #"),
        ({"type": "array", "prefixItems": [{"multipleOf": 9973 - n} for n in range(9)]}, "multipleOf"),
        ({"type": "string", "allOf": [{"pattern": f"[a-z]x.*y{n}"} for n in range(11)]}, "11 patterns"),
        ({"properties": {"a": {"$id": "b"}}}, "$id at #/properties/a"),
        ({"enum": ["a\0"]}, "control characters"),
        ({"type": "string", "pattern": "^\\u0003$"}, "no text that this model can write"),
        ({"type": "string", "enum": [1]}, "enum at #"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_too_much_is_said(schema: Any, said: str) -> None:
    message = refusal(ConstraintKind.JSON_SCHEMA, json.dumps(schema))
    assert message.startswith("json_schema")
    assert said in message


@pytest.mark.parametrize(
    "inner", [{"properties": {"a": None}, "type": "object"}, {"items": None}, {"anyOf": [True, None]}]
)
def test_long_chains_of_references_do_not_end_the_process(inner: dict[str, Any]) -> None:
    def link(number: int) -> Any:
        return json.loads(json.dumps(inner).replace("null", json.dumps({"$ref": f"#/$defs/d{number + 1}"})))

    def chain(length: int) -> str:
        return json.dumps(
            {"$defs": {f"d{n}": link(n) if n < length else True for n in range(length + 1)}, "$ref": "#/$defs/d0"}
        )

    held(ConstraintKind.JSON_SCHEMA, chain(MAX_LEVELS // 3))
    assert f"more than {MAX_LEVELS} levels" in refusal(ConstraintKind.JSON_SCHEMA, chain(1500))


def test_strict_refuses_keywords_that_nobody_knows() -> None:
    source = '{"type": "string", "colour": "red"}'
    assert fits(held(ConstraintKind.JSON_SCHEMA, source), '"a"')
    assert "colour at #" in refusal(ConstraintKind.JSON_SCHEMA, source, strict=True)
    held(ConstraintKind.JSON_SCHEMA, '{"type": "string", "title": "a", "x-order": 1}', strict=True)


def test_a_definition_that_nothing_names_is_not_looked_at() -> None:
    assert takes({"$defs": {"unused": {"not": {}}}, "type": "null"}, None)


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, pydantic.Field(ge=1, le=9)]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, pydantic.Field(min_length=1, max_length=8, pattern="^[A-Z]")] | None = None
    friends: list[Cat | Dog] = []


class Owner(pydantic.BaseModel):
    pets: Annotated[list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]], pydantic.Field(max_length=3)]
    score: float = 0.5
    tags: dict[str, int] = {}


def test_pydantics_models_are_held() -> None:
    matcher = by_schema(Owner.model_json_schema())
    pets = [{"kind": "cat", "lives": 9}, {"kind": "dog", "name": "Rex", "friends": [{"kind": "cat", "lives": 1}]}]
    assert fits(matcher, json.dumps({"pets": pets, "score": 1.5, "tags": {"a": 1}}))
    for wrong in ({"kind": "cat", "lives": 10}, {"kind": "dog", "name": "rex"}, {"kind": "cow"}):
        assert not fits(matcher, json.dumps({"pets": [wrong]}))


def test_openais_strict_form_is_held() -> None:
    step: dict[str, Any] = {
        "type": "object",
        "properties": {"say": {"type": "string"}, "sum": {"type": ["number", "null"]}},
    }
    step |= {"required": ["say", "sum"], "additionalProperties": False}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}},
    }
    schema |= {"required": ["steps"], "additionalProperties": False, "$defs": {"step": step}}
    matcher = held(ConstraintKind.JSON_SCHEMA, json.dumps(schema), strict=True)
    assert fits(matcher, '{"steps": [{"say": "one", "sum": 1.5}, {"say": "", "sum": null}]}')
    assert not fits(matcher, '{"steps": [{"say": "one"}]}')
