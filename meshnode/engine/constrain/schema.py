"""Turns a JSON schema into one that the library holds exactly, or refuses the keyword by name and place. Pure.

JSON Schema (draft 2020-12, and what older drafts and OpenAPI 3.0 write differently) has keywords of three sorts here:
held, annotations without effect, and refused. None is silently held loosely. The canonical schema written out has only
keywords and values whose meaning in the library was checked, every reference as ``#/$defs/rN``, formats as patterns,
patterns in the engine's own syntax, and no ``oneOf``: it becomes ``anyOf`` where its options exclude each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from meshnode.engine.constrain import formats, values
from meshnode.engine.constrain.disjoint import Schema, disjoint
from meshnode.engine.constrain.document import below, find, load
from meshnode.engine.constrain.finite import endless
from meshnode.engine.constrain.joint import MAX_PATTERNS, MAX_STEP, digits, joined
from meshnode.engine.constrain.objects import object_keywords
from meshnode.engine.constrain.patterns import rewrite
from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

MAX_NODES = 5_000
"""Schemas in a schema."""
MAX_LEVELS = 600
"""Schemas inside schemas, summed over definitions: one can lead into the next, and the library goes down by recursion.
With a stack of 8 MB it ends near 2000, and with it the process."""
MAX_OPTIONS = 500
"""Of ``anyOf`` and ``allOf``."""
MAX_EXCLUSIVE = 100
"""Of ``oneOf``, whose options are compared each with each."""
MAX_COMPARISONS = 50_000
"""In one schema, of options of ``oneOf`` and what is inside them: about half a second. Four times as many
schemas that combine others are looked at, each with all that it may refer to."""

ANNOTATIONS = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$schema", "contentEncoding", "contentMediaType",
    "contentSchema", "default", "definitions", "deprecated", "description", "discriminator", "else",
    "enumDescriptions", "enumNames", "example", "examples", "externalDocs", "id", "markdownDescription",
    "maxContains", "minContains", "nullable", "readOnly", "then", "title", "writeOnly", "xml",
})  # fmt: skip
"""Keywords without effect on what is valid, some of them only beside others that are refused."""

REFUSED = {
    "$dynamicRef": "its meaning depends on who asks",
    "$recursiveRef": "its meaning depends on who asks",
    "contains": "items that need one among them cannot be counted",
    "dependencies": "one property cannot depend on another",
    "dependentRequired": "one property cannot depend on another",
    "dependentSchemas": "one property cannot depend on another",
    "disallow": "what must not fit cannot be excluded",
    "extends": "it is of draft 3",
    "if": "a condition cannot be looked back at",
    "not": "what must not fit cannot be excluded",
}
"""Keyword -> why it is not held."""

_ARRAYS = ("items", "prefixItems", "additionalItems", "unevaluatedItems", "uniqueItems", "minItems", "maxItems")
_OBJECTS = (
    *("properties", "patternProperties", "additionalProperties", "unevaluatedProperties"),
    *("propertyNames", "required", "minProperties", "maxProperties"),
)


def canonical(source: str, what: str = "json_schema", *, strict: bool = False) -> dict[str, Any]:
    """The canonical schema of a schema's JSON text. ``what`` names the whole in errors.

    With ``strict`` a keyword nobody knows is refused; else it is an annotation, as the specification says. Raises
    InvalidField or UnsupportedParameter, whose message names the keyword and its place as a JSON pointer.
    """
    root = load(source, what)
    walk = _Walk(root, what, strict)
    top = walk.refer(root, "#")
    while walk.open:
        name, node, place = walk.open.popleft()
        walk.defs[name] = walk.schema(node, place)
        walk.end_definition()
    walk.check()
    return {"$defs": {name.rpartition("/")[2]: schema for name, schema in walk.defs.items()}, "$ref": top}


class _Walk:
    """Writes one schema anew, each part that is referred to once."""

    def __init__(self, root: Any, what: str, strict: bool) -> None:
        self._root = root
        self._what = what
        self._strict = strict
        self._nodes = 0
        self._depth = self._deepest = self._levels = 0
        self._names: dict[str, str] = {}
        self._steps: list[int | float] = []
        self._patterns = 0
        self._joint: list[tuple[Schema, str]] = []
        self._exclusive: list[tuple[list[Schema], str]] = []
        self.open: deque[tuple[str, Any, str]] = deque()
        self.defs: dict[str, Schema] = {}

    def where(self, keyword: str, place: str) -> str:
        """How an error names a keyword at a place."""
        return f"{self._what}: {keyword} at {place}"

    def refer(self, node: Any, place: str) -> str:
        """The name of the schema at ``place``, to be written later if it is new."""
        if place not in self._names:
            name = self._names[place] = f"#/$defs/r{len(self._names)}"
            self.open.append((name, node, place))
        return self._names[place]

    def check(self) -> None:
        """What can be said only once everything is read: see :mod:`finite`, :mod:`joint` and :mod:`disjoint`."""
        places = {name: place for place, name in self._names.items()}
        for name in endless(self.defs, self._what):
            raise wrong(f"{self._what}: the schema at {places[name]}", "no value that ends fits it")
        self._check_joint()
        budget = iter(range(MAX_COMPARISONS))
        for options, where in self._exclusive:
            for index, option in enumerate(options):
                for number, other in enumerate(options[:index]):
                    if not disjoint(option, other, self.defs, budget):
                        why = f"options {number} and {index} may fit the same value"
                        raise not_held(where, why, "Use anyOf, or give each option a const that tells it apart.")

    def _check_joint(self) -> None:
        """Raises InvalidField where keywords cost too much together: see :mod:`joint`."""
        if sum(digits(Fraction(str(step))) for step in self._steps) > 5 * MAX_STEP:
            raise too_complex(f"{self._what}: multipleOf", f"the digits of all come to more than {5 * MAX_STEP}")
        if len(self._steps) < 2 and self._patterns <= MAX_PATTERNS:
            return
        if len(self._joint) * len(self.defs) > 4 * MAX_COMPARISONS:
            raise too_complex(self._what, f"{len(self._joint)} combined schemas among {len(self.defs)} references")
        for schema, place in self._joint:
            step, patterns = joined(schema, self.defs)
            if step is not None and digits(step) > MAX_STEP:
                why = f"together they come to {step}, whose digits are more than {MAX_STEP}"
                raise too_complex(self.where("multipleOf", place), why)
            if patterns > MAX_PATTERNS:
                why = f"{patterns} patterns and formats come together; {MAX_PATTERNS} are the most"
                raise too_complex(self.where("pattern", place), why)

    def schema(self, node: Any, place: str) -> Schema:
        """The canonical schema of the one at ``place``."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise too_complex(self._what, f"more than {MAX_NODES} schemas")
        self._depth += 1
        self._deepest = max(self._deepest, self._depth)
        written = self._write(node, place)
        self._depth -= 1
        return written

    def end_definition(self) -> None:
        """Adds the depth of the definition just written to those before. Raises InvalidField beyond the bound."""
        self._levels, self._deepest = self._levels + self._deepest, 0
        if self._levels > MAX_LEVELS:
            raise too_complex(self._what, f"its definitions are more than {MAX_LEVELS} levels deep in all")

    def _write(self, node: Any, place: str) -> Schema:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise wrong(f"{self._what}: the schema at {place}", "must be an object or a boolean")
        self._refuse(node, place)
        out: dict[str, Any] = {}
        more: list[Schema] = []
        for group, take in _GROUPS:
            if any(keyword in node for keyword in group):
                take(self, node, place, out, more)
        self._join(out, more)
        if "allOf" in out or "$ref" in out or "anyOf" in out:
            self._joint.append((out, place))
        found: Schema = out or True
        return {"anyOf": [found, {"type": "null"}]} if node.get("nullable") is True and out else found

    def _refuse(self, node: dict[str, Any], place: str) -> None:
        for keyword in node:
            if keyword in REFUSED:
                raise not_held(self.where(keyword, place), REFUSED[keyword])
            if self._strict and not (keyword in _HELD or keyword in ANNOTATIONS or keyword.startswith("x-")):
                raise not_held(self.where(keyword, place), "this keyword is not known")
        if "$id" in node and place != "#":
            raise not_held(self.where("$id", place), "a schema inside the schema cannot be a document of its own")

    def _join(self, out: dict[str, Any], more: list[Schema]) -> None:
        """Everything that must hold beside ``out``, without nesting what stands alone."""
        if not out and len(more) == 1 and isinstance(more[0], dict):
            out.update(more[0])
        elif more:
            out["allOf"] = more

    # --- keywords of every type ------------------------------------------------------------------

    def types(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """``type``."""
        out["type"] = values.types(node["type"], self.where("type", place))

    def listed(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """``enum`` and ``const``: one list of values."""
        for keyword in ("enum", "const"):
            if keyword in node:
                given = node[keyword] if keyword == "enum" else [node[keyword]]
                kept = values.fitting(given, out.get("type"), self.where(keyword, place))
                more.append({"enum": kept}) if "enum" in out else out.update(enum=kept)

    def reference(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """``$ref``."""
        where = self.where("$ref", place)
        if not isinstance(node["$ref"], str):
            raise wrong(where, "must be a string")
        out["$ref"] = self.refer(*find(self._root, node["$ref"], where))

    def combined(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """``allOf``, ``anyOf`` and ``oneOf``."""
        for keyword in ("allOf", "anyOf", "oneOf"):
            if keyword not in node:
                continue
            where = self.where(keyword, place)
            most = MAX_EXCLUSIVE if keyword == "oneOf" else MAX_OPTIONS
            given = enumerate(values.subschemas(node[keyword], where, most))
            parts = [self.schema(part, below(below(place, keyword), index)) for index, part in given]
            if keyword == "oneOf":
                self._exclusive.append((parts, where))
            if keyword == "allOf":
                more += parts
            elif keyword == "oneOf" and "anyOf" in out:
                more.append({"anyOf": parts})
            else:
                out["anyOf"] = parts

    # --- keywords of one type --------------------------------------------------------------------

    def numbers(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """Bounds and steps of numbers."""
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if keyword in node:
                out[keyword] = values.number(node[keyword], self.where(keyword, place))
        if "multipleOf" in node:
            out["multipleOf"] = values.step(node["multipleOf"], self.where("multipleOf", place))
            self._steps.append(out["multipleOf"])

    def text(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """Lengths and patterns of strings."""
        for keyword in ("minLength", "maxLength"):
            if keyword in node:
                out[keyword] = values.count(node[keyword], self.where(keyword, place))
        for pattern in self.patterns(node.get("pattern", ""), self.where("pattern", place)):
            self._patterns += 1
            more.append({"pattern": pattern}) if "pattern" in out else out.update(pattern=pattern)

    def patterns(self, given: Any, where: str) -> list[str]:
        """The expressions that say what one pattern says; the first of pydantic's for decimals takes two."""
        if not isinstance(given, str):
            raise wrong(where, "must be a string")
        head, sign = "^(?!^[-+.]*$)", "[^-+.]"
        if given.startswith(head):
            return [*self.patterns("^" + given.removeprefix(head), where), rewrite(sign, where)]
        return [rewrite(given, where)] if given else []

    def format(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """``format``, held as a pattern; it says nothing about other types."""
        name, where = node["format"], self.where("format", place)
        if not isinstance(name, str):
            raise wrong(where, "must be a string")
        kinds = set(out.get("type", values.TYPES))
        if name in formats.RANGES and kinds & {"integer", "number"}:
            least, greatest = formats.RANGES[name]
            more.append({"minimum": least, "maximum": greatest})
        elif name in formats.EXPRESSIONS:
            self._patterns += 1
            more.append({"pattern": f"^(?:{rewrite(formats.EXPRESSIONS[name], where)})$"})
        elif "string" in kinds and name not in {*formats.ANY_TEXT, *formats.NUMERIC, *formats.RANGES}:
            raise not_held(f"{where} ({name!r})", "this format is not known", f"Known: {', '.join(formats.names())}.")

    def arrays(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """Items, each and at their places, and how many; ``items`` as a list is older drafts' ``prefixItems``."""
        for keyword in ("minItems", "maxItems"):
            if keyword in node:
                out[keyword] = values.count(node[keyword], self.where(keyword, place))
        if node.get("uniqueItems") and out.get("maxItems", 2) > 1:
            raise not_held(self.where("uniqueItems", place), "items already written cannot be compared")
        first = "items" if isinstance(node.get("items"), list) else "prefixItems"
        rest = "additionalItems" if first == "items" else "items"
        if first in node:
            given = enumerate(values.subschemas(node[first], self.where(first, place), MAX_OPTIONS))
            out["prefixItems"] = [self.schema(item, below(below(place, first), index)) for index, item in given]
        if rest not in node and "unevaluatedItems" in node:
            rest = "unevaluatedItems"
            self.evaluated(node, place, rest)
        if rest in node:
            out["items"] = self.schema(node[rest], below(place, rest))

    def evaluated(self, node: dict[str, Any], place: str, keyword: str) -> None:
        """Refuses a keyword about what other keywords left over, where those can be anything."""
        if any(other in node for other in ("$ref", "allOf", "anyOf", "oneOf")):
            raise not_held(self.where(keyword, place), "what other schemas left over is not known")

    def objects(self, node: dict[str, Any], place: str, out: dict[str, Any], more: list[Schema]) -> None:
        """Properties; see :mod:`objects`."""
        rest = "additionalProperties"
        if rest not in node and "unevaluatedProperties" in node:
            self.evaluated(node, place, "unevaluatedProperties")
            rest = "unevaluatedProperties"
        object_keywords(self, node, place, out, rest)

    def resolved(self, node: Any, place: str) -> Any:
        """What a schema that is only a reference stands for."""
        for _ in range(10):
            if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
                break
            node, place = find(self._root, node["$ref"], self.where("$ref", place))
        return node


_Take = Callable[[_Walk, dict[str, Any], str, dict[str, Any], list[Schema]], None]
_GROUPS: tuple[tuple[tuple[str, ...], _Take], ...] = (
    (("type",), _Walk.types),
    (("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _Walk.numbers),
    (("minLength", "maxLength", "pattern"), _Walk.text),
    (("format",), _Walk.format),
    (_ARRAYS, _Walk.arrays),
    (_OBJECTS, _Walk.objects),
    (("enum", "const"), _Walk.listed),
    (("allOf", "anyOf", "oneOf"), _Walk.combined),
    (("$ref",), _Walk.reference),
)
_HELD = frozenset(keyword for group, _ in _GROUPS for keyword in group)
