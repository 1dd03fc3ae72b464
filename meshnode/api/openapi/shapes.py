"""What is inside the objects that a request's struct takes as they come, and is checked by hand. Pure.

A struct that says ``dict`` or ``Any`` is read in steps, so that an error can name its place; here stands, once more for
people and for generators of clients, with which struct each step goes on. Tests hold it against the parsers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnode.api import chat_schema, completions_schema, embeddings_schema, templates, tools_schema
from meshnode.api.constraint_schema import ConstraintFields, ResponseFormat, SchemaFormat, StructuredOutputs
from meshnode.api.messages.schema import PromptFields as MessagesPrompt
from meshnode.api.openapi import messages_answers, messages_shapes, responses_shapes
from meshnode.api.openapi.bodies import Upload
from meshnode.api.openapi.endpoint import Either, Many, Shape
from meshnode.api.rerank_schema import DocumentFields, RerankFields
from meshnode.api.responses.schema import ResponseFields
from meshnode.api.routing_schema import PriceFields, ProviderFields, RoutingFields
from meshnode.api.transforms import PluginFields

_TOKEN: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_TEXT: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_TOKENS: Final[Mapping[str, Any]] = {"type": "array", "items": _TOKEN, "minItems": 1}
_PROMPT: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        _TOKENS,
        {
            "type": "array",
            "items": {"anyOf": [{"type": "string"}, _TOKENS]},
            "minItems": 1,
            "maxItems": completions_schema.MOST_PROMPTS,
        },
    ],
    "description": completions_schema.PROMPTS,
}
_INPUT: Final[Mapping[str, Any]] = {
    "anyOf": [
        _TEXT,
        _TOKENS,
        {
            "type": "array",
            "items": {"anyOf": [_TEXT, _TOKENS]},
            "minItems": 1,
            "maxItems": embeddings_schema.MOST_INPUTS,
        },
    ],
    "description": embeddings_schema.INPUTS,
}
_CONTENT: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"enum": ["text", "refusal"]},
                    "text": {"type": "string"},
                    "refusal": {"type": "string"},
                    "cache_control": {"type": "object"},
                },
            },
        },
        {"type": "null"},
    ],
    "description": "a string, or an array of parts of type text (or, of an assistant, refusal)",
}
_CHOICE: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"enum": ["none", "auto", "required"]},
        {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"enum": ["function", "allowed_tools"]},
                "function": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
                "allowed_tools": {"type": "object", "required": ["mode", "tools"]},
            },
        },
    ],
    "description": "none, auto, required, or an object that names functions",
}

_FUNCTION: Final[Mapping[str, Any]] = {
    "anyOf": [
        {"enum": ["none", "auto"]},
        {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    ],
    "description": "none, auto, or an object with the name of a function",
}

SHAPES: Final[Mapping[tuple[type, str], Shape]] = {
    **messages_shapes.SHAPES,
    (messages_answers.MessageAnswer, "content"): Many(messages_answers.CONTENT),
    (messages_answers.ContentBlockStart, "content_block"): messages_answers.CONTENT,
    **responses_shapes.SHAPES,
    (chat_schema.ChatFields, "plugins"): Many(PluginFields),
    (chat_schema.ChatFields, "functions"): Many(tools_schema.FunctionFields),
    (chat_schema.ChatFields, "function_call"): _FUNCTION,
    (chat_schema.ChatFields, "prediction"): chat_schema.PredictionFields,
    (ResponseFields, "plugins"): Many(PluginFields),
    (RerankFields, "documents"): Many(Either(({"type": "string", "minLength": 1}, DocumentFields))),
    (Upload, "file"): {"type": "string", "format": "binary"},
    (RoutingFields, "provider"): ProviderFields,
    (ProviderFields, "max_price"): PriceFields,
    (chat_schema.ChatFields, "messages"): Many(chat_schema.MessageFields),
    (chat_schema.ChatFields, "tools"): Many(tools_schema.ToolFields),
    (chat_schema.ChatFields, "tool_choice"): _CHOICE,
    (chat_schema.ChatFields, "response_format"): ResponseFormat,
    (chat_schema.MessageFields, "role"): {"enum": ["system", "developer", "user", "assistant", "tool", "function"]},
    (chat_schema.MessageFields, "content"): _CONTENT,
    (chat_schema.MessageFields, "tool_calls"): Many(tools_schema.CallFields),
    (tools_schema.ToolFields, "function"): tools_schema.FunctionFields,
    (tools_schema.CallFields, "function"): tools_schema.CalledFields,
    (ConstraintFields, "structured_outputs"): StructuredOutputs,
    (ResponseFormat, "json_schema"): SchemaFormat,
    (completions_schema.CompletionFields, "prompt"): _PROMPT,
    (embeddings_schema.EmbeddingFields, "input"): _INPUT,
    (templates.TemplateFields, "messages"): Many(templates.TurnFields),
}
"""By struct (or one it is made from) and field."""

BESIDE: Final[Mapping[type, Mapping[str, Shape]]] = {
    chat_schema.MessageFields: {"function_call": tools_schema.CalledFields},
}
"""Fields that are said in other words before the struct is read."""

REQUIRED: Final[frozenset[tuple[type, str]]] = frozenset({
    (completions_schema.CompletionFields, "prompt"),
    (embeddings_schema.EmbeddingFields, "input"),
})  # fmt: skip
"""Fields that must be there although their struct does not say so."""

EITHER: Final[Mapping[type, tuple[str, ...]]] = {
    chat_schema.ChatFields: ("messages", "template"),
    MessagesPrompt: ("messages", "template"),
}
"""Fields of which one must be there."""
