"""``text`` of a Responses request, which asks for a form of the answer ⇄ the domain's constraint. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from meshnode.api.constraint_schema import MAX_SOURCE, Schema
from meshnode.api.fields import check_names, convert, invalid, text
from meshnode.api.schema import Verbosity
from meshnode.api.tools_schema import Name
from meshnode.domain import Constraint, ConstraintKind
from meshnode.errors import InvalidField


class FormatFields(msgspec.Struct, kw_only=True):
    """``text.format``."""

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    schema: Schema | None = None
    description: Annotated[str, text(65536)] | None = None
    strict: bool | None = None


class TextFields(msgspec.Struct, kw_only=True):
    """``text``; ``verbosity`` changes nothing, as no open model's template takes it."""

    format: dict[str, Any] | None = None
    verbosity: Verbosity | None = None


class Form(NamedTuple):
    """``constraint``, and ``shown``: the ``text`` that the answer repeats."""

    constraint: Constraint | None
    shown: Mapping[str, Any]


def form(raw: Mapping[str, Any] | None) -> Form:
    """What ``text`` asks for. Raises InvalidField or UnknownField."""
    check_names(raw or {}, TextFields, {}, path="text")
    fields = convert(raw or {}, TextFields, path="text")
    constraint, shown = _format(fields.format or {"type": "text"})
    return Form(constraint, {"format": shown, "verbosity": fields.verbosity or "medium"})


def _format(raw: Mapping[str, Any]) -> tuple[Constraint | None, dict[str, Any]]:
    path = "text.format"
    check_names(raw, FormatFields, {}, path=path)
    fields = convert(raw, FormatFields, path=path)
    if fields.type != "json_schema":
        extra = next((name for name in ("name", "schema", "description", "strict") if raw.get(name) is not None), None)
        if extra is not None:
            raise invalid(f"{path}.{extra}", raw[extra], "left out, unless type is json_schema")
        held = Constraint(kind=ConstraintKind.JSON_OBJECT) if fields.type == "json_object" else None
        return held, {"type": fields.type}
    for name in ("name", "schema"):
        if getattr(fields, name) is None:
            raise InvalidField(f"{path}.{name} is missing.", param=f"{path}.{name}")
    source = json.dumps(fields.schema, ensure_ascii=False)
    if len(source) > MAX_SOURCE:
        raise invalid(f"{path}.schema", fields.schema, f"a schema of at most {MAX_SOURCE} characters")
    shown = {
        "type": "json_schema",
        "name": fields.name,
        "schema": fields.schema if isinstance(fields.schema, dict) else {},
        "strict": fields.strict is True,
    }
    shown |= {} if fields.description is None else {"description": fields.description}
    held = Constraint(
        kind=ConstraintKind.JSON_SCHEMA, source=source, name=fields.name or "", strict=fields.strict is True
    )
    return held, shown
