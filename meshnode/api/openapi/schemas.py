"""Structs as JSON schemas: msgspec's own, completed with what the code checks by hand. Pure.

A request's struct says types and ranges; :data:`meshnode.api.openapi.shapes.SHAPES` says what is inside the objects it
takes as they come, and the refusal tables which documented fields are not served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from meshnode.api.openapi.effects import foreign, no_effect, reason, refusals
from meshnode.api.openapi.endpoint import Either, Many, Shape, structs_in
from meshnode.api.openapi.meanings import INSIDE, MEANINGS, meaning
from meshnode.api.openapi.shapes import BESIDE, EITHER, REQUIRED, SHAPES

_REF: Final = "#/components/schemas/{name}"
_ORDER: Final = {name: place for place, name in enumerate(MEANINGS)}
_WORDS: Final[Mapping[str, str]] = {
    "boolean": "true or false",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "object": "an object",
    "array": "an array",
}


class Schemas:
    """The schemas of some requests and answers, and of all structs inside them."""

    def __init__(self, requests: Iterable[type], answers: Iterable[type]) -> None:
        asked = _reachable(requests)
        kinds = [*asked, *(kind for kind in _reachable(answers) if kind not in asked)]
        references, components = _plainly_named(*msgspec.json.schema_components(kinds, ref_template=_REF))
        self._references = dict(zip(kinds, references, strict=True))
        self.components: dict[str, Any] = components
        """By name."""
        self.allowed: dict[tuple[type, str], str] = {}
        """What a field of a request may be, in words, by struct and field."""
        for kind in kinds:
            if kind in asked:
                self._complete(kind)
            else:
                self._open(kind)

    def of(self, shape: Shape) -> dict[str, Any]:
        """The schema of a shape; structs by reference."""
        if isinstance(shape, Many):
            return {"type": "array", "items": self.of(shape.of)}
        if isinstance(shape, Either):
            return {"anyOf": [self.of(one) for one in shape.of]}
        if isinstance(shape, type):
            return dict(self._references[shape])
        return dict(shape)

    def component(self, kind: type) -> dict[str, Any]:
        """A struct's own schema."""
        found: dict[str, Any] = self.components[self._references[kind]["$ref"].rpartition("/")[2]]
        return found

    def _complete(self, kind: type) -> None:
        component = self.component(kind)
        component["additionalProperties"] = False
        properties = {name: one for name, one in component["properties"].items() if name not in foreign(kind)}
        for name in properties:
            properties[name] = self._property(kind, name, properties[name])
        component["properties"] = properties = dict(sorted(properties.items(), key=lambda item: _place(kind, item[0])))
        properties |= {name: self._property(kind, name, self.of(shape)) for name, shape in BESIDE.get(kind, {}).items()}
        properties |= {name: _refused(kind, name) for name in refusals(kind)}
        needed = [name for name in properties if (kind, name) in REQUIRED]
        if needed:
            component["required"] = [*component.get("required", ()), *needed]
        for names in (EITHER[base] for base in kind.__mro__ if base in EITHER):
            component["anyOf"] = [{"required": [name]} for name in names]

    def _open(self, kind: type) -> None:
        """An answer's: what is inside is told, and it may grow."""
        properties = self.component(kind).get("properties", {})
        properties |= {name: self.of(shape) for name in properties if (shape := _shape(kind, name)) is not None}

    def _property(self, kind: type, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        schema = dict(schema)
        told, idle = meaning(kind, name), no_effect(kind)
        if (shape := _shape(kind, name)) is not None:
            inside = _bounds(schema) | self.of(shape)
            nullable = "default" in schema and schema["default"] is None
            schema = {"anyOf": [inside, {"type": "null"}], "default": None} if nullable else inside
        effect = f"Accepted without effect: {idle[name]}." if name in idle else ""
        said = self.allowed[kind, name] = allowed(schema)
        sentences = [told, effect, f"Allowed: {said}." if said else ""]
        return schema | {"description": " ".join(filter(None, sentences))}


def _plainly_named(references: Any, components: Any) -> tuple[Any, Any]:
    """Structs of one name are told apart by the rooms they are in, not by their modules' paths."""
    text = msgspec.json.encode([references, components]).decode()
    for name in sorted(components, key=len, reverse=True):
        if "." in name:
            rooms = name.removeprefix("meshnode.api.").replace("_schema", "").replace(".schema", "")
            plain = "".join(part[:1].upper() + part[1:] for part in rooms.split("."))
            text = text.replace(f'"{name}"', f'"{plain}"').replace(f'/{name}"', f'/{plain}"')
    found: tuple[Any, Any] = tuple(msgspec.json.decode(text))
    return found


def allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words; ``null`` is not told, as it always counts as absent."""
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(filter(None, map(allowed, schema["anyOf"])))
    if schema.get("type") == "array" and (of := allowed(schema.get("items", {}))):
        return f"an array, each {of}"
    return "an object" if "$ref" in schema else _WORDS.get(schema.get("type", ""), "")


def _bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What the struct says of an array as a whole, and in words."""
    outer = next((one for one in schema.get("anyOf", ()) if one.get("type") == "array"), schema)
    return {key: outer[key] for key in ("minItems", "maxItems", "description") if key in outer}


def _place(kind: type, name: str) -> int:
    """Where a field stands: as the sentences do, which go from what is asked to how it is answered."""
    own = any(name in INSIDE.get(base.__name__, ()) for base in kind.__mro__)
    return 0 if own else _ORDER.get(name, len(_ORDER))


def _refused(kind: type, name: str) -> dict[str, Any]:
    rest = refusals(kind)[name].allowed
    may = f"It may be left out or be {rest}." if rest else "Leave it out."
    why = f"Not served by this node: {told}." if (told := reason(kind, name)) else "Not served by this node."
    said = " ".join(filter(None, [meaning(kind, name), why, may]))
    return {"description": said, "deprecated": True}


def _shape(kind: type, name: str) -> Shape | None:
    return next((SHAPES[base, name] for base in kind.__mro__ if (base, name) in SHAPES), None)


def _reachable(kinds: Iterable[type]) -> list[type]:
    """Those, and the structs in their fields, each once and in order."""
    found: list[type] = []
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop(0)
        if kind not in found:
            found.append(kind)
            waiting += _inside(kind)
    return found


def _inside(kind: type) -> list[type]:
    names = getattr(kind, "__struct_fields__", ())
    inner = [cls for name in names for cls in structs_in(_shape(kind, name))]
    info = msgspec.inspect.type_info(kind)
    typed = [field.type for field in info.fields] if isinstance(info, msgspec.inspect.StructType) else []
    inner += [cls for shape in BESIDE.get(kind, {}).values() for cls in structs_in(shape)]
    return inner + [cls for one in typed for cls in _structs(one)]


def _structs(info: Any) -> list[type]:
    """Structs in a field's type, however deep in unions and arrays."""
    if isinstance(info, msgspec.inspect.StructType):
        return [info.cls]
    if isinstance(info, msgspec.inspect.UnionType):
        return [cls for one in info.types for cls in _structs(one)]
    inner = getattr(info, "item_type", None) or getattr(info, "value_type", None) or getattr(info, "type", None)
    return _structs(inner) if inner is not None else []
