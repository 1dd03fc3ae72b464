"""What a coding agent's request costs before the engine sees it: parsed, validated, and rendered by a template."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from benchmark.texts import words
from meshnode.api.dialects import DIALECTS
from meshnode.api.schema import Asker
from meshnode.domain import OWNER, RequestId
from meshnode.engine.templates import ChatTemplate

TOOLS: Final = 12
SYSTEM_WORDS: Final = 8000
"""With the tools about 12,000 tokens, of which the tools are a third."""
TIMES: Final = 30


def _schema(number: int) -> dict[str, Any]:
    fields = {
        f"field_{index}": {"type": "string", "description": words(14, f"{number} {index}")} for index in range(12)
    }
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def bodies() -> Mapping[str, bytes]:
    """The same request in each dialect that coding agents use, by the dialect's path."""
    system, question = words(SYSTEM_WORDS, "agent"), "List the files here, please."
    tools = [(f"tool_{n}", words(30, f"tool {n}"), _schema(n)) for n in range(TOOLS)]
    functions = [{"name": name, "description": text, "parameters": schema} for name, text, schema in tools]
    spoken = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    found: dict[str, Any] = {
        "chat/completions": {
            "messages": spoken, "stream": True, "tools": [{"type": "function", "function": one} for one in functions],
        },
        "responses": {
            "instructions": system, "input": [{"role": "user", "content": question}], "stream": True, "store": False,
            "tools": [{"type": "function", "strict": False} | one for one in functions],
        },
        "messages": {
            "model": "m", "max_tokens": 32000, "stream": True, "system": [{"type": "text", "text": system}],
            "messages": [{"role": "user", "content": question}],
            "tools": [{"name": name, "description": text, "input_schema": schema} for name, text, schema in tools],
        },
    }  # fmt: skip
    return {path: json.dumps(body).encode() for path, body in found.items() if path in DIALECTS}


def measure() -> dict[str, float]:
    """Milliseconds to parse, validate and render each, the median of :data:`TIMES`."""
    return {f"parse_{path.partition('/')[0]}_ms": _one(path, body) for path, body in bodies().items()}


def _one(path: str, body: bytes) -> float:
    template = ChatTemplate(None, bos="<s>", eos="</s>", now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    asker = Asker(RequestId("bench"), OWNER)
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        template.prompt(DIALECTS[path].parse(body, asker).request)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)
