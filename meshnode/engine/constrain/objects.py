"""Keywords of JSON Schema about objects, in canonical form. Pure.

Two things need care. A grammar writes named properties once, but the others as often as the model likes, and a reader
keeps the last of equal names: a least number of properties is therefore held only as far as equal names cannot cheat
it. And ``propertyNames``, which the library does not know, becomes ``patternProperties`` where nothing else names any.
"""

from __future__ import annotations

from typing import Any, Protocol

from meshnode.engine.constrain import formats, values
from meshnode.engine.constrain.disjoint import Schema
from meshnode.engine.constrain.document import below
from meshnode.engine.constrain.patterns import escaped, rewrite
from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

MAX_PROPERTIES = 1_000
"""Named in one object."""
MAX_PATTERNS = 30
"""Of ``patternProperties``, which are compared each with each."""


class Walk(Protocol):
    """What writes the schemas inside an object."""

    def schema(self, node: Any, place: str) -> Schema:
        """The canonical schema of the one at ``place``."""

    def where(self, keyword: str, place: str) -> str:
        """How an error names a keyword at a place."""

    def resolved(self, node: Any, place: str) -> Any:
        """What a schema that is only a reference stands for."""


def object_keywords(walk: Walk, node: dict[str, Any], place: str, out: dict[str, Any], rest: str) -> None:
    """Writes the keywords about objects of ``node`` into ``out``; ``rest`` names the one about other properties.

    Raises InvalidField and UnsupportedParameter as :func:`schema.canonical` says.
    """
    for keyword in ("minProperties", "maxProperties"):
        if keyword in node:
            out[keyword] = values.count(node[keyword], walk.where(keyword, place))
    if "required" in node:
        out["required"] = values.strings(node["required"], walk.where("required", place))
    if "properties" in node:
        out["properties"] = _named(walk, node, place, "properties")
    if "patternProperties" in node:
        out["patternProperties"] = _patterned(walk, node, place)
    if rest in node:
        out["additionalProperties"] = walk.schema(node[rest], below(place, rest))
    if "propertyNames" in node:
        _restrict_names(walk, node, place, out)
    _check_counts(walk, place, out)


def _named(walk: Walk, node: dict[str, Any], place: str, keyword: str) -> dict[str, Schema]:
    where, inside = walk.where(keyword, place), below(place, keyword)
    given = values.mapping(node[keyword], where)
    if len(given) > MAX_PROPERTIES:
        raise not_held(where, f"{len(given)} properties are named, {MAX_PROPERTIES} are the most", "Name fewer.")
    return {name: walk.schema(each, below(inside, name)) for name, each in given.items()}


def _patterned(walk: Walk, node: dict[str, Any], place: str) -> dict[str, Schema]:
    where = walk.where("patternProperties", place)
    if len(values.mapping(node["patternProperties"], where)) > MAX_PATTERNS:
        raise too_complex(where, f"{len(node['patternProperties'])} patterns; {MAX_PATTERNS} are the most")
    found: dict[str, Schema] = {}
    for pattern, each in _named(walk, node, place, "patternProperties").items():
        written = rewrite(pattern, where)
        found[written] = {"allOf": [found[written], each]} if written in found else each
    return found


def _restrict_names(walk: Walk, node: dict[str, Any], place: str, out: dict[str, Any]) -> None:
    """Turns ``propertyNames`` into a pattern for the properties that nothing else names."""
    where, names = walk.where("propertyNames", place), walk.resolved(node["propertyNames"], place)
    if names is True or names == {}:
        return
    if out.get("properties") or out.get("patternProperties"):
        raise not_held(where, "other keywords name properties too", "Name the properties only, or only restrict names.")
    if names is not False:
        if not isinstance(names, dict):
            raise wrong(where, "must be a schema")
        out["patternProperties"] = {_name_pattern(names, where): out.get("additionalProperties", True)}
    out["additionalProperties"] = False


def _name_pattern(names: dict[str, Any], where: str) -> str:
    """The pattern of the names that a schema of strings allows, where it has one keyword to say so."""
    said = {key: value for key, value in names.items() if key not in ("type", "title", "description", "default")}
    keyword, value = next(iter(said.items())) if len(said) == 1 else ("", None)
    if keyword == "pattern" and isinstance(value, str):
        return rewrite(value, where)
    if keyword == "format" and value in formats.EXPRESSIONS:
        return f"^(?:{rewrite(formats.EXPRESSIONS[value], where)})$"
    if keyword in ("enum", "const"):
        listed = values.strings([value] if keyword == "const" else value, where)
        return f"^(?:{'|'.join(map(escaped, listed))})$"
    if said and set(said) <= {"minLength", "maxLength"}:
        bounds = [str(values.count(said[key], where)) if key in said else "" for key in ("minLength", "maxLength")]
        return f"^(?s:.){{{bounds[0] or 0},{bounds[1]}}}$"
    raise not_held(where, "only one of pattern, format, enum, const or lengths is", "Use one of those.")


def _check_counts(walk: Walk, place: str, out: dict[str, Any]) -> None:
    """Refuses numbers of properties that could not be counted: optional ones, and equal names written twice."""
    known = len(out.get("required", ()))
    least, most = out.get("minProperties", 0) - known, out.get("maxProperties")
    if most is not None and least + known > most:
        raise wrong(walk.where("minProperties", place), "it is more than maxProperties")
    if least > 1:
        why = f"only {known} properties are required, and equal names would be counted twice"
        raise not_held(walk.where("minProperties", place), why, "Require properties by name.")
    optional = out.get("properties", {}).keys() - set(out.get("required", ()))
    closed = out.get("additionalProperties") is False and "patternProperties" not in out
    if optional and (least > 0 or most is not None) and not (closed and (most is None or most - known == 1)):
        keyword = "maxProperties" if most is not None else "minProperties"
        raise not_held(walk.where(keyword, place), "optional properties are not counted", "Require them, or name none.")
