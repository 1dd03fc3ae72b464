"""What coding agents send to messages is what the description allows."""

from __future__ import annotations

import msgspec

from meshnode.api.messages.schema import parse_messages
from meshnode.api.openapi.messages_shapes import SHAPES
from meshnode.api.schema import Asker
from meshnode.domain import OWNER, RequestId
from tests.kit.described import check_body

KEEP = {"type": "ephemeral"}
TEXT = [{"type": "text", "text": "x"}]
AGENT = {
    "model": "m",
    "max_tokens": 32000,
    "stream": True,
    "system": [{"type": "text", "text": "You write code.", "cache_control": KEEP}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Fix it.", "cache_control": KEEP}]},
        {"role": "system", "content": "The user opened a file."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Let me look.", "signature": "x"},
                {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "x"}],
                },
                {"type": "document", "source": {"type": "text", "data": "d", "media_type": "text/plain"}},
            ],
        },
    ],
    "tools": [
        {"name": "Read", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": []},
    "metadata": {"user_id": "u"},
}


def test_an_agents_body_is_allowed_by_parser_and_description() -> None:
    parse_messages(msgspec.json.encode(AGENT), Asker(RequestId("r"), OWNER))
    check_body("/v1/messages", AGENT)


def test_only_fields_that_exist_have_a_shape() -> None:
    assert [name for kind, name in SHAPES if name not in getattr(kind, "__struct_fields__", ())] == []
