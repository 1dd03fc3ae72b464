"""The fields that say what form an answer must have ⇄ the domain's one constraint. Pure.

Sources: OpenAI's ``response_format``; llama.cpp's server for ``grammar`` and ``json_schema``; vLLM for ``guided_*`` and
``structured_outputs``. They are ways to say one thing, so only one of them may be given. Whether a schema can be held
is for the engine to say, which knows the model's tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from meshnode.api.fields import check_names, convert, invalid, text
from meshnode.api.routing_schema import RoutingFields
from meshnode.domain import Constraint, ConstraintKind
from meshnode.errors import InvalidField

MAX_SOURCE: Final = 1 << 18
"""Characters of a grammar or a schema."""
MAX_CHOICES: Final = 10_000

Grammar = Annotated[str, text(MAX_SOURCE)]
Choices = Annotated[
    list[str], msgspec.Meta(min_length=1, max_length=MAX_CHOICES, description=f"an array of 1 to {MAX_CHOICES} strings")
]
Schema = dict[str, Any] | bool


class SchemaFormat(msgspec.Struct, kw_only=True):
    """``response_format.json_schema``."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,64}$", description="1 to 64 letters, digits, _ or -")]
    description: Annotated[str, text(65536)] | None = None
    schema: Schema | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """``response_format``."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StructuredOutputs(msgspec.Struct, kw_only=True):
    """vLLM's ``structured_outputs``: the ``guided_*`` fields in one object."""

    json: Schema | str | None = None
    regex: Grammar | None = None
    choice: Choices | None = None
    grammar: Grammar | None = None
    json_object: bool | None = None


class ConstraintFields(RoutingFields, kw_only=True):
    """The fields of a request that constrain its answer, but for ``response_format``, which chat alone has.

    A struct has one line of ancestors; those of routing, which every dialect has, come first.
    """

    grammar: Grammar | None = None
    json_schema: Schema | None = None
    guided_json: Schema | str | None = None
    guided_regex: Grammar | None = None
    guided_choice: Choices | None = None
    guided_grammar: Grammar | None = None
    structured_outputs: dict[str, Any] | None = None


def constraint(fields: ConstraintFields, response_format: Mapping[str, Any] | None = None) -> Constraint | None:
    """The one constraint that was asked for. Raises InvalidField or UnknownField."""
    found: dict[str, Constraint] = {}
    for name, make in _MAKERS.items():
        value = getattr(fields, name)
        if value is not None and value != "":
            found[name] = make(value, name)
    found |= _structured(fields.structured_outputs)
    if response_format is not None and (asked := _response_format(response_format)) is not None:
        found["response_format"] = asked
    if len(found) > 1:
        names = " and ".join(sorted(found)[:2])
        raise InvalidField(f"{names} both constrain the answer.", hint="Send one of them.", param=sorted(found)[1])
    return next(iter(found.values()), None)


def _response_format(raw: Mapping[str, Any]) -> Constraint | None:
    path = "response_format"
    check_names(raw, ResponseFormat, {}, path=path)
    asked = convert(raw, ResponseFormat, path=path)
    if asked.type != "json_schema":
        return Constraint(kind=ConstraintKind.JSON_OBJECT) if asked.type == "json_object" else None
    path = f"{path}.json_schema"
    if asked.json_schema is None:
        raise InvalidField(f"{path} is missing.", hint="Send an object with name and schema.", param=path)
    check_names(asked.json_schema, SchemaFormat, {}, path=path)
    given = convert(asked.json_schema, SchemaFormat, path=path)
    schema: Schema = True if given.schema is None else given.schema
    return _json(schema, f"{path}.schema", name=given.name, strict=given.strict is True)


def _structured(raw: Mapping[str, Any] | None) -> dict[str, Constraint]:
    """What ``structured_outputs`` asks for, by the names of its fields."""
    if raw is None:
        return {}
    path = "structured_outputs"
    check_names(raw, StructuredOutputs, {}, path=path)
    given = convert(raw, StructuredOutputs, path=path)
    found = {} if not given.json_object else {f"{path}.json_object": Constraint(kind=ConstraintKind.JSON_OBJECT)}
    for name in ("json", "regex", "choice", "grammar"):
        if (value := getattr(given, name)) is not None:
            found[f"{path}.{name}"] = _MAKERS[f"guided_{name}"](value, f"{path}.{name}")
    return found


def _json(schema: Schema, path: str, *, name: str = "", strict: bool = False) -> Constraint:
    source = json.dumps(schema, ensure_ascii=False)
    if len(source) > MAX_SOURCE:
        raise invalid(path, schema, f"a schema of at most {MAX_SOURCE} characters")
    return Constraint(kind=ConstraintKind.JSON_SCHEMA, source=source, name=name, strict=strict)


def _json_or_text(schema: Schema | str, path: str) -> Constraint:
    """vLLM takes a schema as JSON text too."""
    if not isinstance(schema, str):
        return _json(schema, path)
    try:
        parsed = json.loads(schema)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict | bool):
        raise invalid(path, schema, "a JSON schema, as an object or as JSON text")
    return _json(parsed, path)


def _choice(choices: list[str], path: str) -> Constraint:
    if sum(map(len, choices)) > MAX_SOURCE:
        raise invalid(path, choices, f"at most {MAX_SOURCE} characters together")
    return Constraint(kind=ConstraintKind.CHOICE, source=json.dumps(choices, ensure_ascii=False))


def _of(kind: ConstraintKind) -> Callable[[Any, str], Constraint]:
    return lambda source, path: Constraint(kind=kind, source=source)


_MAKERS: Final[Mapping[str, Callable[[Any, str], Constraint]]] = {
    "grammar": _of(ConstraintKind.GRAMMAR),
    "json_schema": _json,
    "guided_json": _json_or_text,
    "guided_regex": _of(ConstraintKind.REGEX),
    "guided_choice": _choice,
    "guided_grammar": _of(ConstraintKind.GRAMMAR),
}
