"""What is inside the objects of a messages request that are read in steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshnode.api.messages import blocks, conversation, schema, steering, tools
from meshnode.api.openapi.endpoint import Either, Many, Shape

_STRING: Final[Mapping[str, Any]] = {"type": "string"}
_SERVED_ELSEWHERE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}},
    "description": "a tool of Anthropic's servers: left out, and the answer says so",
}
_TEXTS: Final = Either((_STRING, Many(blocks.TextBlock)))
_RESULTS: Final = Either(
    (_STRING, Many(Either((blocks.TextBlock, blocks.DocumentBlock, blocks.SearchResultBlock))), {"type": "null"})
)
_SAID: Final = Either(
    (
        _STRING,
        Many(
            Either(
                (
                    blocks.TextBlock,
                    blocks.ThinkingBlock,
                    blocks.RedactedBlock,
                    blocks.DocumentBlock,
                    blocks.SearchResultBlock,
                    conversation.ToolUseBlock,
                    conversation.ToolResultBlock,
                )
            )
        ),
    )
)

SHAPES: Final[Mapping[tuple[type, str], Shape]] = {
    (schema.PromptFields, "messages"): Many(conversation.MessageFields),
    (schema.PromptFields, "system"): _TEXTS,
    (schema.PromptFields, "metadata"): schema.UserFields,
    (schema.PromptFields, "thinking"): steering.ThinkingFields,
    (schema.PromptFields, "output_config"): steering.OutputFields,
    (schema.PromptFields, "output_format"): steering.FormatFields,
    (schema.PromptFields, "tools"): Many(Either((tools.ToolFields, _SERVED_ELSEWHERE))),
    (schema.PromptFields, "tool_choice"): tools.ChoiceFields,
    (conversation.MessageFields, "content"): _SAID,
    (conversation.ToolResultBlock, "content"): _RESULTS,
    (blocks.DocumentBlock, "source"): Either((blocks.PlainSource, blocks.ContentSource)),
    (blocks.ContentSource, "content"): _TEXTS,
    (blocks.SearchResultBlock, "content"): Many(blocks.TextBlock),
    (steering.OutputFields, "format"): steering.FormatFields,
}
