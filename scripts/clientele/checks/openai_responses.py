"""The responses endpoint: what is answered, streamed, kept and deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import openai
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseStreamEvent
from pydantic import BaseModel, ConfigDict, Field

from clientele.checks.checklist import same
from clientele.checks.openai_subject import QUESTION, WEATHER, OpenAIChecks, Subject
from clientele.checks.openai_tools import weather

check = OpenAIChecks()
TOOL: Any = {"type": "function", **WEATHER["function"]}


class Animal(BaseModel):
    """What the parse check asks for."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat", "dog", "horse"]
    legs: int = Field(ge=0, le=8)


def ask(of: Subject, **asked: Any) -> Response:
    """A short answer to a greeting, unless something else is asked."""
    body: dict[str, Any] = {"model": of.model, "input": "Say hello.", "max_output_tokens": 16}
    answer: Response = of.sdk.responses.create(**(body | asked))
    return answer


@check("responses: an answer with its items and usage")
def create(of: Subject) -> None:
    """The object's fields as the SDK needs them."""
    answer = ask(of, instructions="Be brief.", metadata={"a": "b"}, temperature=0)
    assert answer.output_text, "no text"
    assert answer.status in {"completed", "incomplete"}, f"status: {answer.status}"
    same((answer.object, answer.instructions, answer.metadata), ("response", "Be brief.", {"a": "b"}), "echo")
    usage = answer.usage
    assert usage is not None, "no usage"
    same(usage.total_tokens, usage.input_tokens + usage.output_tokens, "total_tokens")


@check("responses: max_output_tokens ends it incomplete")
def incomplete(of: Subject) -> None:
    """With the reason."""
    answer = ask(of, max_output_tokens=16, input="Count from 1 to 100.")
    same(answer.status, "incomplete", "status")
    assert answer.incomplete_details is not None
    same(answer.incomplete_details.reason, "max_output_tokens", "reason")


@check("responses: messages, parts and roles as input")
def items(of: Subject) -> None:
    """Easy messages and items with parts."""
    given: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    ]
    assert ask(of, input=given).output_text, "no text"


def in_order(events: Iterable[ResponseStreamEvent]) -> list[ResponseStreamEvent]:
    """The events, once their numbers and frame are found right."""
    found = list(events)
    same([event.sequence_number for event in found], list(range(len(found))), "sequence_number")
    same([event.type for event in found[:2]], ["response.created", "response.in_progress"], "first events")
    assert found[-1].type in {"response.completed", "response.incomplete"}, f"last event: {found[-1].type}"
    return found


@check("responses: a stream in OpenAI's order")
def stream(of: Subject) -> None:
    """Numbered events; the item is added, grows, is done; ids never change."""
    asked: Any = {"model": of.model, "input": "Say hello.", "max_output_tokens": 16, "stream": True}
    events = in_order(of.sdk.responses.create(**asked))
    kinds = [event.type for event in events]
    order = [
        "response.output_item.added", "response.content_part.added", "response.output_text.delta",
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
    ]  # fmt: skip
    places = [kinds.index(kind) if kind in kinds else -1 for kind in order]
    assert -1 not in places and places == sorted(places), f"events: {kinds}"
    whole = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last: Any = events[-1]
    same(last.response.output_text, whole, "text of the last event")
    ids = {event.item_id for event in events if event.type == "response.output_text.delta"}
    same(ids, {last.response.output[0].id}, "item ids")


@check("responses: the SDK's accumulator")
def accumulate(of: Subject) -> None:
    """``responses.stream`` ends with the whole response, where the answer is not cut: the package wants it complete."""
    with of.sdk.responses.stream(model=of.model, input="Say hello.", max_output_tokens=300) as running:
        text = "".join(event.delta for event in running if event.type == "response.output_text.delta")
        final = running.get_final_response()
    assert text, "no deltas"
    same(final.output_text, text, "text")


@check("responses: a forced call, its result sent back")
def tools(of: Subject) -> None:
    """Both halves of a function call, statelessly."""
    answer = ask(
        of,
        input=QUESTION,
        tools=[TOOL],
        tool_choice="required",
        max_output_tokens=400,
        temperature=0,
        parallel_tool_calls=False,
    )
    calls = [item for item in answer.output if isinstance(item, ResponseFunctionToolCall)]
    assert calls, f"no call: {[item.type for item in answer.output]}"
    weather(calls[0].arguments)
    assert calls[0].call_id, "no call_id"
    result = {"type": "function_call_output", "call_id": calls[0].call_id, "output": json.dumps({"degrees": 21})}
    given = [*QUESTION, *(item.model_dump(exclude_none=True) for item in answer.output), result]
    after = ask(of, input=given, tools=[TOOL], tool_choice="none")
    assert after.output_text, "no text after the result"


@check("responses: a call in a stream")
def streamed_call(of: Subject) -> None:
    """The arguments come in pieces and end with done."""
    asked: Any = {
        "model": of.model, "input": QUESTION, "tools": [TOOL], "max_output_tokens": 400, "temperature": 0,
        "tool_choice": {"type": "function", "name": "get_weather"}, "stream": True, "parallel_tool_calls": False,
    }  # fmt: skip
    events = in_order(of.sdk.responses.create(**asked))
    pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    same(done.arguments, pieces, "arguments")
    weather(pieces)


@check("responses: parse() gives an object of the class")
def parse(of: Subject) -> None:
    """``text.format`` of a strict schema."""
    answer = of.sdk.responses.parse(
        model=of.model, input="An animal.", text_format=Animal, max_output_tokens=60, temperature=0
    )
    assert isinstance(answer.output_parsed, Animal), f"parsed: {answer.output_parsed!r}"


@check("responses: reasoning, include and unknown tools are accepted")
def accepted(of: Subject) -> None:
    """What coding agents send along."""
    answer = ask(
        of, reasoning={"effort": "low"}, include=["reasoning.encrypted_content"], store=False, truncation="disabled",
        prompt_cache_key="k", safety_identifier="s", tools=[{"type": "web_search"}, TOOL], parallel_tool_calls=False,
        text={"verbosity": "low"},
    )  # fmt: skip
    assert answer.output, "no output"


@check("responses: previous_response_id goes on")
def previous(of: Subject) -> None:
    """The earlier turn is part of the prompt."""
    first = ask(of, input="My name is Ada.", store=True)
    second = ask(of, input="What is my name?", previous_response_id=first.id)
    same(second.previous_response_id, first.id, "previous_response_id")
    assert first.usage is not None and second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens, "the first turn is not in the prompt"


@check("responses: retrieve, input_items, delete, then 404")
def kept(of: Subject) -> None:
    """The life of a stored response."""
    made = ask(of, store=True)
    same(of.sdk.responses.retrieve(made.id).output_text, made.output_text, "text")
    held: list[Any] = list(of.sdk.responses.input_items.list(made.id))
    same([(item.type, item.role) for item in held], [("message", "user")], "input items")
    of.sdk.responses.delete(made.id)
    try:
        of.sdk.responses.retrieve(made.id)
    except openai.NotFoundError:
        return
    raise AssertionError("it is still there")


@check("responses: in the background, cancelled")
def background(of: Subject) -> None:
    """Answered at once with an id; cancelled by it."""
    asked = {"input": "Count from 1 to 1000.", "max_output_tokens": 6000, "extra_body": {"ignore_eos": True}}
    made = ask(of, background=True, store=True, **asked)
    assert made.status in {"queued", "in_progress"}, f"status: {made.status}"
    same(of.sdk.responses.cancel(made.id).status, "cancelled", "status after cancel")
    same(of.sdk.responses.retrieve(made.id).status, "cancelled", "status later")


@check("responses: input_tokens.count")
def count(of: Subject) -> None:
    """What the answer's usage says."""
    counted = of.sdk.responses.input_tokens.count(model=of.model, input="Say hello.")
    usage = ask(of).usage
    assert usage is not None
    same(counted.input_tokens, usage.input_tokens, "input_tokens")


@check("responses: errors in OpenAI's shape")
def errors(of: Subject) -> None:
    """400 names the field; too long has its code; an unknown id is 404."""
    for wrong, param, code in (
        ({"temperature": 9}, "temperature", None),
        ({"input": "word " * 9000}, None, "context_length_exceeded"),
    ):
        try:
            ask(of, **wrong)
        except openai.BadRequestError as error:
            assert param is None or error.param == param, f"param: {error.param!r}"
            assert code is None or error.code == code, f"code: {error.code!r}"
            continue
        raise AssertionError(f"answered, with {sorted(wrong)}")
    try:
        of.sdk.responses.retrieve("resp_nobody")
    except openai.NotFoundError:
        return
    raise AssertionError("an unknown response was found")
