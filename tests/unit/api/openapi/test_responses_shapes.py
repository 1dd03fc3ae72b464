"""What coding agents send to responses is what the description allows."""

from __future__ import annotations

import msgspec

from meshnode.api.openapi.responses_shapes import SHAPES
from meshnode.api.responses.parse import parse_response
from meshnode.api.schema import Asker
from meshnode.domain import OWNER, RequestId
from tests.kit.described import check_body

FUNCTION = {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": False}
AGENT = {
    "model": "m",
    "instructions": "You write code.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"role": "user", "content": "Fix it."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None, "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "ok"}]},
    ],
    "tools": [
        FUNCTION,
        {"type": "namespace", "name": "files", "tools": [FUNCTION]},
        {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "client_metadata": {"a": "b"},
    "text": {"verbosity": "low"},
}


def test_an_agents_body_is_allowed_by_parser_and_description() -> None:
    parse_response(msgspec.json.encode(AGENT), Asker(RequestId("r"), OWNER))
    check_body("/v1/responses", AGENT)


def test_only_fields_that_exist_have_a_shape() -> None:
    assert [name for kind, name in SHAPES if name not in getattr(kind, "__struct_fields__", ())] == []
