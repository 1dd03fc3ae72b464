"""Tools and schemas in chat completions. Calls are forced, for a small model makes none by itself."""

from __future__ import annotations

import json
from typing import Any, Literal

from openai.types.chat import ChatCompletionMessageFunctionToolCall
from pydantic import BaseModel, ConfigDict, Field

from clientele.checks.checklist import Skipped, same
from clientele.checks.openai_subject import CLOCK, HI, QUESTION, WEATHER, OpenAIChecks, Subject

check = OpenAIChecks()


class Person(BaseModel):
    """What the parse checks ask for."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)
    mood: Literal["happy", "sad"]


def calls_of(of: Subject, **asked: Any) -> list[ChatCompletionMessageFunctionToolCall]:
    """The calls in the answer to the question about the weather."""
    answer = of.sdk.chat.completions.create(model=of.model, messages=QUESTION, max_tokens=400, temperature=0, **asked)
    calls = answer.choices[0].message.tool_calls or []
    same(answer.choices[0].finish_reason, "tool_calls", "finish_reason")
    return [call for call in calls if isinstance(call, ChatCompletionMessageFunctionToolCall)]


def weather(arguments: str) -> dict[str, Any]:
    """The arguments of a call of ``get_weather``; raises AssertionError where they are not of its schema."""
    found: dict[str, Any] = json.loads(arguments)
    same(sorted(found), ["city", "unit"], "arguments")
    assert found["unit"] in {"celsius", "fahrenheit"}, f"unit: {found['unit']!r}"
    return found


@check("tools: required")
def required(of: Subject) -> None:
    """One of two, with valid arguments."""
    calls = calls_of(of, tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False)
    assert calls, "no call"
    for call in calls:
        assert call.id and call.function.name in {"get_weather", "get_time"}, f"call: {call}"
        assert isinstance(json.loads(call.function.arguments), dict), "arguments are no object"


@check("tools: one by name")
def named(of: Subject) -> None:
    """The function that ``tool_choice`` names."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=QUESTION, max_tokens=400, temperature=0, tools=[CLOCK, WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, parallel_tool_calls=False,
    )  # fmt: skip
    calls = answer.choices[0].message.tool_calls or []
    assert calls, "no call"
    for call in calls:
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        same(call.function.name, "get_weather", "name")
        weather(call.function.arguments)
    assert answer.choices[0].finish_reason in {"tool_calls", "stop"}, answer.choices[0].finish_reason


@check("tools: auto answers, none calls nothing")
def auto(of: Subject) -> None:
    """Both are answered; only ``auto`` may call."""
    free = of.sdk.chat.completions.create(
        model=of.model, messages=QUESTION, max_tokens=40, tools=[WEATHER], tool_choice="auto"
    )
    assert free.choices[0].message.content or free.choices[0].message.tool_calls, "nothing"
    barred = of.sdk.chat.completions.create(
        model=of.model, messages=QUESTION, max_tokens=40, tools=[WEATHER], tool_choice="none"
    )
    assert not barred.choices[0].message.tool_calls, "a call"


@check("tools: allowed_tools")
def allowed(of: Subject) -> None:
    """A choice among some."""
    choice: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_time"}}]},
    }
    calls = calls_of(of, tools=[WEATHER, CLOCK], tool_choice=choice, parallel_tool_calls=False)
    same({call.function.name for call in calls}, {"get_time"}, "names")


@check("tools: parallel_tool_calls false is one call")
def single(of: Subject) -> None:
    """Never two."""
    same(len(calls_of(of, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)), 1, "calls")


@check("tools: parallel calls have ids of their own")
def several(of: Subject) -> None:
    """Where the model makes more than one, which nobody can force."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=QUESTION, max_tokens=400, temperature=0, tools=[CLOCK, WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, parallel_tool_calls=True,
    )  # fmt: skip
    calls = answer.choices[0].message.tool_calls or []
    assert calls, "no call"
    if len(calls) == 1:
        raise Skipped("the model made one call only")
    same(len({call.id for call in calls}), len(calls), "ids")


@check("tools: two calls and their results sent back")
def results(of: Subject) -> None:
    """A conversation that goes on after parallel calls."""
    messages: list[Any] = [
        *QUESTION,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": json.dumps({"city": city, "unit": "celsius"})},
                }
                for number, city in enumerate(("Paris", "Lyon"))
            ],
        },
        {"role": "tool", "tool_call_id": "call_0", "content": "21 degrees"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "19 degrees"}]},
    ]
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=messages, max_tokens=30, tools=[WEATHER], tool_choice="none"
    )
    assert answer.choices[0].message.content, "no text"


@check("tools: a call in a stream")
def streamed(of: Subject) -> None:
    """Index always, id and name once, arguments in pieces; the accumulator puts them together."""
    asked: Any = {
        "model": of.model, "messages": QUESTION, "max_tokens": 400, "temperature": 0, "tools": [WEATHER],
        "tool_choice": "required", "parallel_tool_calls": False,
    }  # fmt: skip
    chunks = list(of.sdk.chat.completions.create(**asked, stream=True))
    deltas = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas, "no call"
    same({call.index for call in deltas}, {0}, "indexes")
    same([call.id is not None for call in deltas], [True] + [False] * (len(deltas) - 1), "where an id is")
    names = [call.function.name for call in deltas if call.function and call.function.name]
    same(names, ["get_weather"], "names")
    weather("".join(call.function.arguments or "" for call in deltas if call.function))
    with of.sdk.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds, f"events: {sorted(kinds)}"
    assert final.choices[0].message.tool_calls, "the accumulator has no call"


@check("schema: parse() gives an object of the class")
def parse(of: Subject) -> None:
    """``response_format`` of a strict JSON schema."""
    answer = of.sdk.chat.completions.parse(
        model=of.model, messages=[{"role": "user", "content": "Invent a person."}], max_tokens=400, temperature=0,
        response_format=Person,
    )  # fmt: skip
    assert isinstance(answer.choices[0].message.parsed, Person), f"parsed: {answer.choices[0].message.parsed!r}"


@check("schema: parse a stream")
def parse_stream(of: Subject) -> None:
    """The accumulator's object."""
    with of.sdk.chat.completions.stream(
        model=of.model, messages=[{"role": "user", "content": "Invent a person."}], max_tokens=400, temperature=0,
        response_format=Person,
    ) as stream:  # fmt: skip
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.done" in kinds, f"events: {sorted(kinds)}"
    assert isinstance(final.choices[0].message.parsed, Person), "nothing parsed"


@check("schema: json_object")
def json_object(of: Subject) -> None:
    """Any object; an answer that is cut says so."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=[{"role": "user", "content": "A small JSON object with a name."}], max_tokens=150,
        temperature=0, response_format={"type": "json_object"},
    )  # fmt: skip
    content = answer.choices[0].message.content or ""
    assert content.lstrip().startswith("{"), f"text: {content!r}"
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict), "not an object"


@check("schema: tools and reasoning fields in one request")
def everything(of: Subject) -> None:
    """As frameworks send them."""
    answer = of.sdk.chat.completions.create(
        model=of.model, messages=HI, max_tokens=10, tools=[WEATHER], reasoning_effort="minimal",
        parallel_tool_calls=True, tool_choice="auto",
    )  # fmt: skip
    assert answer.choices[0].message.content is not None or answer.choices[0].message.tool_calls, "nothing"
