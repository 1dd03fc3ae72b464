"""litellm: OpenAI's and Anthropic's dialects by its provider prefixes."""

from __future__ import annotations

import json
from typing import Any

import litellm

from clientele.checks.checklist import Checklist, Target, same, target

check = Checklist[Target]()
HI: list[Any] = [{"role": "user", "content": "Say hello."}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def openai_route(of: Target) -> dict[str, Any]:
    """What sends a call to chat completions."""
    return {"model": f"openai/{of.model}", "api_base": f"{of.api}/v1", "api_key": "unused", "timeout": 90}


@check("completion()")
def completion(of: Target) -> None:
    """An answer with its usage."""
    answer = litellm.completion(**openai_route(of), messages=HI, max_tokens=12)
    assert answer.choices[0].message.content, "no text"
    assert answer.usage.total_tokens > 0, "no usage"


@check("completion(stream=True)")
def stream(of: Target) -> None:
    """Pieces of text."""
    pieces = litellm.completion(**openai_route(of), messages=HI, max_tokens=12, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces), "no text"


@check("a forced call, its result sent back")
def tools(of: Target) -> None:
    """Both halves."""
    asked: dict[str, Any] = {"tools": [WEATHER], "max_tokens": 200, "temperature": 0}
    question = [{"role": "user", "content": "The weather in Paris?"}]
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = litellm.completion(
        **openai_route(of), **asked, messages=question, tool_choice=choice, parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls
    same(list(json.loads(call.function.arguments)), ["city"], "arguments")
    turns = [
        *question,
        answer.choices[0].message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "21"},
    ]
    after = litellm.completion(**openai_route(of), **(asked | {"max_tokens": 20}), messages=turns, tool_choice="none")
    assert after.choices[0].message.content, "no text after the result"


@check("embedding()")
def embedding(of: Target) -> None:
    """Two vectors."""
    answer = litellm.embedding(**openai_route(of), input=["the sea", "a cat"], encoding_format="float")
    same(len(answer.data), 2, "vectors")


@check("responses()")
def responses(of: Target) -> None:
    """The responses endpoint."""
    answer = litellm.responses(**openai_route(of), input="Say hello.", max_output_tokens=16)
    assert answer.output, "no output"


@check("anthropic/ route")
def anthropic(of: Target) -> None:
    """Messages, one-shot and streamed."""
    route = {"model": f"anthropic/{of.model}", "api_base": of.api, "api_key": "unused", "timeout": 90}
    answer = litellm.completion(**route, messages=HI, max_tokens=12)
    assert answer.choices[0].message.content, "no text"
    pieces = litellm.completion(**route, messages=HI, max_tokens=12, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces), "no text in the stream"


@check("errors are litellm's own classes")
def errors(of: Target) -> None:
    """Context, and a model that is not there."""
    long = [{"role": "user", "content": "word " * 9000}]
    raised(litellm.ContextWindowExceededError, openai_route(of), long)
    raised(litellm.NotFoundError, openai_route(of) | {"model": "openai/nobody"}, HI)


def raised(kind: type[Exception], route: dict[str, Any], messages: list[Any]) -> None:
    """Raises AssertionError where the call does not raise ``kind``."""
    try:
        litellm.completion(**route, messages=messages, max_tokens=1)
    except kind:
        return
    raise AssertionError(f"answered instead of {kind.__name__}")


if __name__ == "__main__":
    litellm.num_retries = 0
    check.run(target())
