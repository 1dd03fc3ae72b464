"""The tools a reply may call, and what types their parameters may have. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from meshnode.domain import Tool

EVERY: Final = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
"""JSON Schema's types."""
_DEEPEST: Final = 32
"""References and alternatives that are followed into each other; beyond, a value may be anything."""


class Offered:
    """The tools, by name; what cannot be read as a schema allows everything."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._schemas: dict[str, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._tools)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools."""
        return tuple(self._tools)

    def resolve(self, written: str) -> str | None:
        """The tool that is meant by a name as a model writes it: maybe in quotes, maybe as ``functions.name``."""
        name = written.strip().strip("\"'")
        if name not in self._tools:
            name = name.removeprefix("functions.")
        return name if name in self._tools else None

    def types(self, name: str, parameter: str) -> frozenset[str]:
        """Types that ``parameter`` of the tool may have."""
        schema = self.schema(name)
        properties = schema.get("properties")
        if not isinstance(properties, dict) or parameter not in properties:
            return EVERY
        return types_of(properties[parameter], schema)

    def schema(self, name: str) -> dict[str, Any]:
        """The parameters' schema; empty if it is none."""
        if name not in self._schemas:
            self._schemas[name] = schema_of(self._tools[name])
        return self._schemas[name]


def schema_of(tool: Tool) -> dict[str, Any]:
    """The parameters' JSON schema; empty if it is none."""
    try:
        schema = json.loads(tool.parameters)
    except ValueError:
        return {}
    return schema if isinstance(schema, dict) else {}


def types_of(schema: Any, root: dict[str, Any], depth: int = 0) -> frozenset[str]:
    """The JSON types a schema lets through, never too few; ``root`` is where ``$ref`` leads."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return EVERY
    found = EVERY
    if isinstance(schema.get("$ref"), str):
        found &= types_of(_target(schema["$ref"], root), root, depth + 1)
    if isinstance(schema.get("type"), str):
        found &= {schema["type"]}
    elif isinstance(schema.get("type"), list):
        found &= {each for each in schema["type"] if isinstance(each, str)}
    if "const" in schema:
        found &= {type_of(schema["const"])}
    if isinstance(schema.get("enum"), list):
        found &= {type_of(each) for each in schema["enum"]}
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            found &= frozenset().union(*(types_of(each, root, depth + 1) for each in schema[word]))
    if isinstance(schema.get("allOf"), list):
        for each in schema["allOf"]:
            found &= types_of(each, root, depth + 1)
    return found or EVERY


def type_of(value: Any) -> str:
    """The JSON type of a decoded value; of a whole number, ``integer``."""
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "string")


def _target(reference: str, root: dict[str, Any]) -> Any:
    """What a local reference leads to; nothing known of any other."""
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found
