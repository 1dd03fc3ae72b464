"""A request's fields in OpenAI's words as the engine's own record, so that both render one conversation. Pure."""

from __future__ import annotations

import json
from typing import Any

from meshnode.domain import (
    GenerationRequest,
    Message,
    ModelId,
    ReasoningPart,
    RequestId,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)


def message_of(fields: dict[str, Any]) -> Message:
    """A message in OpenAI's words."""
    content = fields["content"]
    parts = [{"text": content}] if isinstance(content, str) else content or []
    thoughts = [ReasoningPart(fields["reasoning_content"])] if "reasoning_content" in fields else []
    return Message(
        role=Role(fields["role"]),
        parts=(*thoughts, *(TextPart(part["text"]) for part in parts)),
        name=fields.get("name"),
        tool_call_id=fields.get("tool_call_id"),
        tool_calls=tuple(
            ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])
            for call in fields.get("tool_calls", [])
        ),
    )


def request_of(fields: dict[str, Any]) -> GenerationRequest:
    """A request in OpenAI's words."""
    functions = [tool["function"] for tool in fields.get("tools", [])]
    tools = (
        Tool(name=function["name"], description=function["description"], parameters=json.dumps(function["parameters"]))
        for function in functions
    )
    return GenerationRequest(
        id=RequestId("r"),
        model=ModelId("m"),
        messages=tuple(message_of(turn) for turn in fields["messages"]),
        tools=tuple(tools),
        tool_choice=ToolChoice(mode=ToolMode(fields.get("tool_choice", "auto"))),
        parallel_tool_calls=fields.get("parallel_tool_calls", True),
        template_kwargs=json.dumps(fields.get("chat_template_kwargs", {})),
        reasoning_effort=fields.get("reasoning_effort"),
    )
