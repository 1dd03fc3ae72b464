"""Which tool is meant, and what its parameters may be."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.domain import Tool
from meshnode.engine.replies.offered import EVERY, Offered, schema_of, type_of, types_of


def test_a_name_is_known_as_models_write_it() -> None:
    tools = Offered([Tool(name="f"), Tool(name="functions.g"), Tool(name="a b")])
    written = {"f": "f", " f\n": "f", '"f"': "f", "functions.f": "f", "functions.g": "functions.g", "a b": "a b"}
    assert {name: tools.resolve(name) for name in written} == written
    assert tools.resolve("h") is None
    assert tools.resolve("") is None
    assert tools.names == ("f", "functions.g", "a b")
    assert bool(tools)
    assert not Offered([])


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"enum": ["a", "b"]}, {"string"}),
        ({"enum": ["a", 1, None]}, {"string", "integer", "null"}),
        ({"const": True}, {"boolean"}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"string", "integer"}),
        ({"oneOf": [{"const": 1.5}]}, {"number"}),
        ({"allOf": [{"type": ["string", "null"]}, {"type": "string"}]}, {"string"}),
        ({"$ref": "#/$defs/city"}, {"string"}),
        ({"$ref": "#/$defs/a~1b"}, {"object"}),
        ({"$ref": "#/$defs/loop"}, EVERY),
        ({"$ref": "elsewhere.json"}, EVERY),
        ({"$ref": "#/$defs/none"}, EVERY),
        ({"type": "string", "enum": [1]}, EVERY),
        ({}, EVERY),
        (True, EVERY),
    ],
)
def test_types_a_schema_lets_through(schema: Any, types: frozenset[str]) -> None:
    defs = {"city": {"type": "string"}, "a/b": {"type": "object"}, "loop": {"$ref": "#/$defs/loop"}}
    assert types_of(schema, {"$defs": defs}) == types


def test_parameters_nobody_declared_and_schemas_that_are_none_allow_everything() -> None:
    tools = Offered(
        [Tool(name="f", parameters='{"properties": {"a": {"type": "null"}}}'), Tool(name="g", parameters="{")]
    )
    assert tools.types("f", "a") == {"null"}
    assert tools.types("f", "b") == tools.types("g", "a") == EVERY
    assert schema_of(Tool(name="h", parameters="[]")) == {}


def test_types_of_values() -> None:
    values: dict[str, Any] = {
        "null": None,
        "boolean": True,
        "integer": 1,
        "number": 1.5,
        "string": "",
        "array": [],
        "object": {},
    }
    assert {name: type_of(value) for name, value in values.items()} == {name: name for name in values}
