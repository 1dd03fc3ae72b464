"""Whether a recursive schema has a finite value. Pure.

A schema may demand itself: ``{"$ref": "#"}``, or a list node whose ``next`` is required. No text that fits ever ends; a
grammar of it would lead the model on for ever. Found as unproductive symbols of a grammar are (Hopcroft and Ullman
1979, section 4.4): what has a finite value is marked, and again, until nothing new is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshnode.engine.constrain.disjoint import Schema
from meshnode.engine.constrain.refuse import too_complex

MAX_ROUNDS = 100
"""Through all definitions, forwards and backwards in turn; schemas that people write need two."""
_SCALARS = frozenset({"null", "boolean", "number", "integer", "string"})


def endless(defs: Mapping[str, Schema], where: str) -> list[str]:
    """Names of the canonical definitions that no finite value fits, in order.

    Raises InvalidField, naming ``where``, if definitions refer to each other so that it takes too long to say.
    """
    open_, marked = [*defs], set[str]()
    for _ in range(MAX_ROUNDS):
        open_.reverse()
        before = len(marked)
        for name in open_:
            if _ends(defs[name], marked.__contains__):
                marked.add(name)
        open_ = [name for name in open_ if name not in marked]
        if not open_ or len(marked) == before:
            return [name for name in defs if name not in marked]
    raise too_complex(where, f"references upon references, more than {MAX_ROUNDS} of them against their order")


def _ends(schema: Schema, known: Callable[[str], bool]) -> bool:
    """Whether a finite value may fit, if references to definitions not ``known`` to end do not."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not known(schema["$ref"]):
        return False
    if not all(_ends(part, known) for part in schema.get("allOf", ())):
        return False
    if "anyOf" in schema and not any(_ends(option, known) for option in schema["anyOf"]):
        return False
    if "const" in schema or "enum" in schema:
        return True
    named = schema.get("type", "string")
    types = {named} if isinstance(named, str) else set(named)
    if types & _SCALARS:
        return True
    return ("array" in types and _array(schema, known)) or ("object" in types and _object(schema, known))


def _array(schema: Mapping[str, Any], known: Callable[[str], bool]) -> bool:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", [])
    needed = [*first[:least], *([schema.get("items", True)] if least > len(first) else [])]
    return all(_ends(item, known) for item in needed)


def _object(schema: Mapping[str, Any], known: Callable[[str], bool]) -> bool:
    properties = schema.get("properties", {})
    others = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties", True)]
    for name in schema.get("required", ()):
        if not (_ends(properties[name], known) if name in properties else any(_ends(each, known) for each in others)):
            return False
    more = schema.get("minProperties", 0) > len(schema.get("required", ()))
    return not more or any(_ends(each, known) for each in (*properties.values(), *others))
