"""SmolLM2, whose template has no words for tools, calls the right one where it must, and reads what it returned."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest

from meshnode.domain import (
    Constraint,
    ConstraintKind,
    FinishReason,
    GenerationRequest,
    Message,
    Role,
    Stopping,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)
from meshnode.engine.backend import Backend
from meshnode.engine.llama.loading import open_llama
from meshnode.events import ToolCallDelta, ToolCallStarted
from tests.kit.driven import Driven, chatting
from tests.kit.llamas import cpu_load
from tests.kit.smollm2 import smollm2_path

pytestmark = pytest.mark.model


def tool(name: str, description: str, **kinds: str) -> Tool:
    """A tool whose parameters are all required."""
    properties = {parameter: {"type": kind} for parameter, kind in kinds.items()}
    schema = {"type": "object", "properties": properties, "required": list(kinds), "additionalProperties": False}
    return Tool(name=name, description=description, parameters=json.dumps(schema))


TOOLS = (
    tool("get_weather", "The weather of a city now.", city="string"),
    tool("add", "Add two numbers.", a="number", b="number"),
)


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Backend]:
    """The model."""
    backend = open_llama(cpu_load(smollm2_path(), n_ctx=1024))
    yield backend
    backend.close()


def asking(text: str, *more: Message, mode: ToolMode = ToolMode.AUTO) -> GenerationRequest:
    """A conversation with the tools; the likeliest answer."""
    begun = chatting(text, stopping=Stopping(max_tokens=80))
    messages, choice = (*begun.messages, *more), ToolChoice(mode=mode)
    return msgspec.structs.replace(begun, messages=messages, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("asked", "name", "arguments"),
    [
        ("Add 3 and 4.", "add", {"a": 3, "b": 4}),
        ("Please call get_weather for Paris.", "get_weather", {"city": "Paris"}),
    ],
)
def test_it_calls_the_right_tool_where_it_must_call_one(
    smollm2: Backend, asked: str, name: str, arguments: dict[str, object]
) -> None:
    driven = Driven(smollm2)
    number = driven.submit(asking(asked, mode=ToolMode.REQUIRED))
    events = driven.run().events(number)
    assert [event.name for event in events if isinstance(event, ToolCallStarted)] == [name]
    assert json.loads("".join(event.arguments for event in events if isinstance(event, ToolCallDelta))) == arguments
    assert driven.reason(number) is FinishReason.TOOL_CALLS


def test_it_answers_by_what_a_tool_returned(smollm2: Backend) -> None:
    call = ToolCall(id="c1", name="get_weather", arguments='{"city": "Oslo"}')
    asked = Message(role=Role.ASSISTANT, tool_calls=(call,))
    returned = Message(role=Role.TOOL, tool_call_id="c1", parts=(TextPart("snow, -3 degrees"),))
    driven = Driven(smollm2)
    number = driven.submit(asking("What is the weather in Oslo?", asked, returned))
    assert "-3" in driven.run().text(number)


def test_beside_a_form_of_its_text_it_calls_or_keeps_to_the_form(smollm2: Backend) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    form = Constraint(kind=ConstraintKind.JSON_SCHEMA, source=json.dumps(schema | {"additionalProperties": False}))
    driven = Driven(smollm2)
    wanted = ("What is the weather in Oslo?", "What is 2 + 3? Answer without a tool.")
    called, said = (driven.submit(msgspec.structs.replace(asking(text), constraint=form)) for text in wanted)
    driven.run()
    assert [event.name for event in driven.events(called) if isinstance(event, ToolCallStarted)] == ["get_weather"]
    assert driven.text(called) == ""
    assert json.loads(driven.text(said)) == {"answer": 5}
    assert driven.reason(said) is FinishReason.STOP
