"""The ``anthropic`` package as its users set it up, strict about what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anthropic import Anthropic

from clientele.checks.checklist import Checklist, Target

PATIENCE_S = 90.0
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
HI: list[Any] = [{"role": "user", "content": "Say hello."}]
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]


@dataclass(frozen=True)
class Subject:
    """The client that a check may use, and the model's name."""

    sdk: Anthropic
    model: str
    target: Target


def client(url: str, key: str, retries: int = 0) -> Anthropic:
    """A strict client of the server at ``url``."""
    return Anthropic(
        base_url=url, api_key=key, max_retries=retries, timeout=PATIENCE_S, _strict_response_validation=True
    )


def subject(target: Target) -> Subject:
    """The client for a target."""
    return Subject(client(target.api, "unused"), target.model, target)


AnthropicChecks = Checklist[Subject]
