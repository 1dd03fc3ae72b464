"""The ``openai`` package as its users set it up, strict about what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openai import OpenAI

from clientele.checks.checklist import Checklist, Target

PATIENCE_S = 90.0
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CLOCK: Any = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
HI: list[Any] = [{"role": "user", "content": "Say hello."}]


@dataclass(frozen=True)
class Subject:
    """The clients that a check may use, and the model's name."""

    sdk: OpenAI
    embedder: OpenAI
    lenient_embedder: OpenAI
    model: str
    target: Target

    def patient(self, url: str, key: str, retries: int = 0) -> OpenAI:
        """A client of another server."""
        return client(url, key, retries)


def client(url: str, key: str, retries: int = 0, *, strict: bool = True) -> OpenAI:
    """A client of the server at ``url``; a strict one raises where an answer is not of the package's types."""
    return OpenAI(
        base_url=f"{url}/v1", api_key=key, max_retries=retries, timeout=PATIENCE_S, _strict_response_validation=strict
    )


def subject(target: Target) -> Subject:
    """The clients for a target."""
    embedder, lenient = (client(target.embeddings, "unused", strict=strict) for strict in (True, False))
    return Subject(client(target.api, "unused"), embedder, lenient, target.model, target)


OpenAIChecks = Checklist[Subject]
