"""Real answers held against the OpenAPI document, strictly: what it does not tell of must not come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator

from meshnode.api.openapi.document import document
from meshnode.api.openapi.table import ENDPOINTS
from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from tests.kit.api import Step

STRICT = json.loads(json.dumps(document(ENDPOINTS, version="0")))
for _component in STRICT["components"]["schemas"].values():
    if "properties" in _component:
        _component["additionalProperties"] = False

TALK: Sequence[Step] = [
    Started(3),
    ReasoningDelta("hm"),
    TextDelta("a", logprobs=(TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5), (2, b"b", -1.5))),)),
    ToolCallStarted(0, "call_1", "f"),
    ToolCallDelta(0, "{}"),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    Finished(Usage(prompt_tokens=3, completion_tokens=4)),
]
"""An answer with a thought, a text and a call."""


def check(path: str, method: str, answer: Any, *, status: int = 200, media: str = "application/json") -> None:
    """Fails where the answer is not as the document says, or has more than it says."""
    response = STRICT["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = STRICT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][media]["schema"] | {"components": STRICT["components"]}
    assert [error.message for error in Draft202012Validator(schema).iter_errors(answer)] == []


def check_body(path: str, body: Any) -> None:
    """Fails where the document does not allow the body of a POST."""
    content = STRICT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = content["schema"] | {"components": STRICT["components"]}
    assert [error.message for error in Draft202012Validator(schema).iter_errors(body)] == []
