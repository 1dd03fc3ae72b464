"""Anthropic's messages: answers, streams, tools, counts, models, errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import anthropic
from anthropic.types import Message, TextBlock, ToolUseBlock

from clientele.checks.anthropic_subject import HI, QUESTION, WEATHER, AnthropicChecks, Subject, client
from clientele.checks.checklist import Skipped, same

check = AnthropicChecks()
FREED_S = 10.0
GREEDY: Any = {"extra_body": {"temperature": 0}}
"""The package has no ``temperature`` of its own any more."""


def ask(of: Subject, **asked: Any) -> Message:
    """A short answer to a greeting, unless something else is asked."""
    body: dict[str, Any] = {"model": of.model, "messages": HI, "max_tokens": 16}
    answer: Message = of.sdk.messages.create(**(body | asked))
    return answer


def words(answer: Message) -> str:
    """The text of an answer."""
    return "".join(block.text for block in answer.content if isinstance(block, TextBlock))


@check("messages: an answer with its usage")
def create(of: Subject) -> None:
    """One text block."""
    answer = ask(of, system="Be brief.")
    assert words(answer), "no text"
    same((answer.type, answer.role), ("message", "assistant"), "frame")
    assert answer.stop_reason in {"end_turn", "max_tokens"}, f"stop_reason: {answer.stop_reason}"
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, "no usage"
    assert answer._request_id, "no request id"


@check("messages: blocks, system blocks, cache_control")
def blocks(of: Subject) -> None:
    """Everything as blocks, a system message in mid-conversation too."""
    mark = {"type": "ephemeral"}
    given: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "Hi.", "cache_control": mark}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        {"role": "user", "content": [{"type": "text", "text": "Who are you?"}]},
    ]
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert words(ask(of, messages=given, system=system, metadata={"user_id": "me"})), "no text"


@check("messages: max_tokens and stop_sequences say why they ended it")
def endings(of: Subject) -> None:
    """Both stop reasons."""
    free = ask(of, messages=[{"role": "user", "content": "Count: 1, 2, 3, 4, 5"}], max_tokens=24, **GREEDY)
    same(ask(of, max_tokens=1, **GREEDY).stop_reason, "max_tokens", "stop_reason")
    text = words(free)
    mark = text[len(text) // 2 :][:3].strip() or text[:3]
    cut = ask(
        of, messages=[{"role": "user", "content": "Count: 1, 2, 3, 4, 5"}], max_tokens=24, **GREEDY,
        stop_sequences=[mark],
    )  # fmt: skip
    same((cut.stop_reason, cut.stop_sequence), ("stop_sequence", mark), "ending")
    same(words(cut), text[: text.index(mark)], "text")


@check("messages: a stream in Anthropic's order")
def stream(of: Subject) -> None:
    """Every event in its place, usage at the end."""
    events = list(of.sdk.messages.create(model=of.model, messages=HI, max_tokens=16, stream=True))
    kinds = [event.type for event in events]
    same((kinds[0], kinds[1]), ("message_start", "content_block_start"), "first events")
    same(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"], "last events")
    first: Any = events[0]
    same((first.message.content, first.message.stop_reason), ([], None), "message_start")
    delta: Any = events[-2]
    assert delta.usage.output_tokens > 0, "no usage in message_delta"


@check("messages: the SDK's accumulator")
def accumulate(of: Subject) -> None:
    """``messages.stream``: text pieces are the final message."""
    with of.sdk.messages.stream(model=of.model, messages=HI, max_tokens=16) as running:
        text = "".join(running.text_stream)
        final = running.get_final_message()
    assert text, "no text"
    same(words(final), text, "text")
    assert final.stop_reason, "no stop_reason"


def called(answer: Message) -> ToolUseBlock:
    """The one call of ``get_weather``, its input of the schema."""
    same(answer.stop_reason, "tool_use", "stop_reason")
    (block,) = [block for block in answer.content if isinstance(block, ToolUseBlock)]
    same(block.name, "get_weather", "name")
    same(sorted(block.input), ["city", "unit"], "input")
    return block


@check("messages: a call of any tool, of one by name, of none")
def tools(of: Subject) -> None:
    """``tool_choice`` in its forms."""
    for choice in (
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    ):
        called(ask(of, messages=QUESTION, tools=[WEATHER], tool_choice=choice, max_tokens=400, **GREEDY))
    barred = ask(of, messages=QUESTION, tools=[WEATHER], tool_choice={"type": "none"})
    assert not [block for block in barred.content if isinstance(block, ToolUseBlock)], "a call"
    free = ask(of, messages=QUESTION, tools=[WEATHER], tool_choice={"type": "auto"}, max_tokens=40)
    assert free.content, "nothing"


@check("messages: a call's result sent back")
def tool_result(of: Subject) -> None:
    """Parallel results, one an error."""
    uses = [
        {"type": "tool_use", "id": f"toolu_{n}", "name": "get_weather", "input": {"city": city, "unit": "celsius"}}
        for n, city in enumerate(("Paris", "Lyon"))
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_0", "content": "21 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "no"}],
            "is_error": True,
        },
    ]
    given = [*QUESTION, {"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    answer = ask(of, messages=given, tools=[WEATHER], tool_choice={"type": "none"})
    assert words(answer), "no text"


@check("messages: a call in a stream")
def streamed_call(of: Subject) -> None:
    """Begins with empty input, grows by partial JSON, is put together."""
    with of.sdk.messages.stream(
        model=of.model,
        messages=QUESTION,
        tools=[WEATHER],
        max_tokens=400,
        **GREEDY,
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    ) as running:
        events: list[Any] = list(running)
        final = running.get_final_message()
    starts = [event.content_block for event in events if event.type == "content_block_start"]
    assert any(block.type == "tool_use" for block in starts), "no tool_use block"
    assert any(event.type == "input_json" for event in events), "no partial JSON"
    assert [block for block in final.content if isinstance(block, ToolUseBlock)], "the accumulator has no call"


@check("messages: count_tokens is the usage of the answer")
def count(of: Subject) -> None:
    """With tools and system."""
    asked: Any = {"model": of.model, "messages": HI, "system": "Be brief.", "tools": [WEATHER]}
    counted = of.sdk.messages.count_tokens(**asked)
    usage = of.sdk.messages.create(**asked, max_tokens=1, tool_choice={"type": "auto"}).usage
    read = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    same(counted.input_tokens, usage.input_tokens + read, "input_tokens")


@check("messages: thinking, effort and betas are accepted")
def thinking(of: Subject) -> None:
    """What coding agents send along; server tools are ignored."""
    ask(of, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000, stop_sequences=["e", "a", " "])
    answer = of.sdk.beta.messages.create(
        model=of.model, messages=HI, max_tokens=8, thinking={"type": "adaptive"}, output_config={"effort": "low"},
        tools=[{"type": "web_search_20250305", "name": "web_search"}], betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
    )  # fmt: skip
    assert answer.content is not None, "no content"


@check("messages: an answer of a JSON schema")
def schema(of: Subject) -> None:
    """``output_config.format``, token by token."""
    form: Any = {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"kind": {"enum": ["cat", "dog"]}},
            "required": ["kind"],
            "additionalProperties": False,
        },
    }
    answer = ask(of, output_config={"format": form}, max_tokens=40, **GREEDY)
    assert json.loads(words(answer)) in ({"kind": "cat"}, {"kind": "dog"}), f"text: {words(answer)!r}"


@check("messages: models in Anthropic's shape")
def models(of: Subject) -> None:
    """List, one, and the one that is not there."""
    listed = of.sdk.models.list()
    assert of.model in [model.id for model in listed], "not in the list"
    assert of.sdk.models.retrieve(of.model).display_name, "no display_name"
    refused(lambda: of.sdk.models.retrieve("no-such-model"), anthropic.NotFoundError)


def refused(call: Callable[[], Any], kind: type[anthropic.APIStatusError]) -> dict[str, Any]:
    """The body of the error that ``call`` raises, which must be of ``kind`` and in Anthropic's shape."""
    try:
        call()
    except anthropic.APIStatusError as error:
        assert isinstance(error, kind), f"{type(error).__name__} ({error.status_code}) instead of {kind.__name__}"
        body: Any = error.body
        assert isinstance(body, dict) and body.get("type") == "error", f"body: {body!r}"
        found: dict[str, Any] = body["error"]
        return found
    raise AssertionError(f"answered instead of {kind.__name__}")


@check("messages: errors in Anthropic's shape")
def errors(of: Subject) -> None:
    """A bad field, a model that is not there, a prompt that is too long."""
    bad = refused(lambda: ask(of, extra_body={"temperature": -3}), anthropic.BadRequestError)
    same(bad["type"], "invalid_request_error", "type")
    assert "temperature" in bad["message"], f"message: {bad['message']!r}"
    same(refused(lambda: ask(of, model="nobody"), anthropic.NotFoundError)["type"], "not_found_error", "type")
    long: Any = [{"role": "user", "content": "word " * 9000}]
    found = refused(lambda: ask(of, messages=long), anthropic.BadRequestError)
    assert "prompt is too long" in found["message"], f"message: {found['message']!r}"


@check("messages: 401 where a key is asked for, by either header")
def keys(of: Subject) -> None:
    """``x-api-key`` and ``Authorization``."""
    if not of.target.guarded:
        raise Skipped("no server with a key")
    asked: Any = {"model": of.model, "messages": HI, "max_tokens": 1}
    wrong = client(of.target.guarded, "wrong")
    refused(lambda: wrong.messages.create(**asked), anthropic.AuthenticationError)
    assert client(of.target.guarded, of.target.key).messages.create(**asked).content is not None
    bearer = anthropic.Anthropic(base_url=of.target.guarded, auth_token=of.target.key, max_retries=0, timeout=60)
    assert bearer.messages.create(**asked).content is not None


@check("messages: breaking off streams frees their slots")
def leave(of: Subject) -> None:
    """As many as there are slots, all left."""
    count: list[Any] = [{"role": "user", "content": "Count from 1 to 1000, one number a line."}]
    for _ in range(6):
        with of.sdk.messages.create(model=of.model, messages=count, max_tokens=6000, stream=True) as running:
            next(iter(running))
    began = time.monotonic()
    of.sdk.with_options(timeout=FREED_S).messages.create(model=of.model, messages=HI, max_tokens=1)
    assert time.monotonic() - began < FREED_S, "the slots are still held"
