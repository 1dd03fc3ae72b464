"""What is inside the objects of a Responses request that are read in steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnode.api.openapi.endpoint import Either, Many, Shape
from meshnode.api.responses import form, items, schema, tooling

_STRING: Final[Mapping[str, Any]] = {"type": "string"}
_REFERENCE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id"],
    "properties": {"type": {"const": "item_reference"}, "id": {"type": "string"}},
    "description": "an item of a kept response",
}
_SERVED_ELSEWHERE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}},
    "description": "a tool that OpenAI runs itself: left out",
}
_PARTS: Final = Either((_STRING, Many(Either((items.PartFields, items.RefusalFields)))))
_ITEM: Final = Either(
    (
        items.MessageFields,
        items.CallFields,
        items.CustomCallFields,
        items.OutputFields,
        items.ReasoningFields,
        _REFERENCE,
    )
)
_CHOICE: Final = Either(
    ({"enum": ["none", "auto", "required"]}, tooling.NamedFields, tooling.AllowedFields, {"type": "object"})
)

SHAPES: Final[Mapping[tuple[type, str], Shape]] = {
    (schema.ResponseFields, "input"): Either((_STRING, Many(_ITEM))),
    (schema.ResponseFields, "prompt"): schema.PromptFields,
    (schema.ResponseFields, "reasoning"): schema.ReasoningFields,
    (schema.ResponseFields, "text"): form.TextFields,
    (schema.ResponseFields, "tools"): Many(
        Either((tooling.FunctionFields, tooling.CustomFields, tooling.NamespaceFields, _SERVED_ELSEWHERE))
    ),
    (schema.ResponseFields, "tool_choice"): _CHOICE,
    (items.MessageFields, "content"): _PARTS,
    (items.OutputFields, "output"): _PARTS,
    (items.ReasoningFields, "content"): Many(items.ThoughtFields),
    (form.TextFields, "format"): form.FormatFields,
    (tooling.CustomFields, "format"): tooling.GrammarFields,
    (tooling.NamespaceFields, "tools"): Many(Either((tooling.FunctionFields, tooling.CustomFields))),
}
