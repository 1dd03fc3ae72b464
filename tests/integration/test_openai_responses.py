"""The official ``openai`` package's Responses against the API, every answer validated against its own types."""

from __future__ import annotations

import os
from typing import Any

import openai
import pytest
import trio
from openai import OpenAI
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseStreamEvent
from pydantic import BaseModel

from meshnode.domain import FinishReason, Role
from meshnode.errors import ContextLengthExceeded
from meshnode.events import (
    ChoiceFinished,
    Counted,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from tests.integration.test_openai_sdk import with_sdk
from tests.kit.api import CARD, Scripted, Step, running_api, spoken
from tests.kit.response_events import checked

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = FunctionToolParam(type="function", name="weather", parameters=dict(CITY), strict=True)
CALLS: list[Step] = [
    Started(5),
    ReasoningDelta("Look outside."),
    ToolCallStarted(0, "call_1", "weather"),
    ToolCallDelta(0, '{"city": '),
    ToolCallDelta(0, '"Oslo"}'),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    Finished(Usage(5, 9, 0, 3)),
]


def kinds(events: list[ResponseStreamEvent]) -> list[str]:
    return [event.type.removeprefix("response.") for event in events]


async def test_one_shot() -> None:
    async with running_api(Scripted(spoken("Hello", " world"))) as api:
        answer = await with_sdk(
            api,
            lambda sdk: sdk.responses.create(
                model="tiny", input="hi", instructions="Be kind.", max_output_tokens=5, metadata={"a": "b"}
            ),
        )
        request = api.scripted.requests[0]
    assert answer.output_text == "Hello world"
    assert (answer.status, answer.model, answer.metadata) == ("completed", CARD.id, {"a": "b"})
    assert (answer.instructions, answer.max_output_tokens, answer.background) == ("Be kind.", 5, False)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 2, 7)
    assert answer.usage.input_tokens_details.cached_tokens == 2
    assert request.stopping.max_tokens == 5
    assert [message.role for message in request.messages] == [Role.SYSTEM, Role.USER]


async def test_a_stream_in_exact_order() -> None:
    def call(sdk: OpenAI) -> list[ResponseStreamEvent]:
        return list(sdk.responses.create(model="tiny", input="hi", stream=True))

    async with running_api(Scripted(spoken("Hel", "lo"))) as api:
        events = await with_sdk(api, call)
    final = checked([event.model_dump(mode="json", exclude_unset=True, by_alias=True) for event in events])
    assert final["output"][0]["content"][0]["text"] == "Hello"
    assert kinds(events)[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds(events)[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]


@pytest.mark.parametrize("ends", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
async def test_the_sdks_own_accumulator_takes_an_incomplete_stream(ends: FinishReason) -> None:
    def call(sdk: OpenAI) -> str | None:
        with sdk.responses.stream(model="tiny", input="hi") as stream:
            last = list(stream)[-1]
        assert last.type == "response.incomplete"
        assert last.response.incomplete_details is not None
        return last.response.incomplete_details.reason

    steps: list[Step] = [Started(5), TextDelta("Hel"), ChoiceFinished(ends), Finished(Usage(5, 1))]
    async with running_api(Scripted(steps)) as api:
        reason = await with_sdk(api, call)
    assert reason == {"length": "max_output_tokens", "content_filter": "content_filter"}[ends.value]


async def test_a_call_and_its_result_sent_back() -> None:
    def call(sdk: OpenAI) -> tuple[ResponseFunctionToolCall, str]:
        with sdk.responses.stream(model="tiny", input="Weather in Oslo?", tools=[WEATHER]) as stream:
            answer = stream.get_final_response()
        thought, asked = answer.output
        assert thought.type == "reasoning"
        assert asked.type == "function_call"
        items: list[Any] = [
            {"role": "user", "content": "Weather in Oslo?"},
            *(item.to_dict() for item in sdk.responses.retrieve(answer.id).output),
            {"type": "function_call_output", "call_id": asked.call_id, "output": "rain"},
        ]
        sdk.responses.create(model="tiny", input=items, tools=[WEATHER])
        return asked, answer.id

    async with running_api(Scripted(CALLS), entropy=os.urandom) as api:
        asked, _ = await with_sdk(api, call)
        user, turn, result = api.scripted.requests[1].messages
    assert (asked.name, asked.arguments) == ("weather", '{"city": "Oslo"}')
    assert (user.role, turn.tool_calls[0].id, result.tool_call_id) == (Role.USER, "call_1", "call_1")
    assert len(turn.parts) == 1


async def test_a_conversation_by_previous_response_id_and_its_items() -> None:
    def call(sdk: OpenAI) -> tuple[str | None, list[str], str]:
        first = sdk.responses.create(model="tiny", input="hi")
        second = sdk.responses.create(model="tiny", input="and?", previous_response_id=first.id)
        items = [str(item.type) for item in sdk.responses.input_items.list(second.id, limit=1, order="asc")]
        again = sdk.responses.retrieve(second.id, include=["reasoning.encrypted_content"])
        sdk.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            sdk.responses.retrieve(first.id)
        return second.previous_response_id, items, again.output_text

    async with running_api(Scripted(spoken("Hello")), entropy=os.urandom) as api:
        previous, items, text = await with_sdk(api, call)
        roles = [message.role.value for message in api.scripted.requests[1].messages]
    assert previous is not None
    assert (items, text) == (["message"], "Hello")
    assert roles == ["user", "assistant", "user"]


class City(BaseModel):
    name: str


async def test_a_structured_answer() -> None:
    async with running_api(Scripted(spoken('{"name": "Oslo"}'))) as api:
        answer = await with_sdk(api, lambda sdk: sdk.responses.parse(model="tiny", input="?", text_format=City))
        held = api.scripted.requests[0].constraint
    assert answer.output_parsed == City(name="Oslo")
    assert held is not None
    assert held.strict


async def test_logprobs_and_a_refusal() -> None:
    logprob = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5),))
    steps: list[Step] = [
        Started(5),
        TextDelta("a", logprobs=(logprob,)),
        RefusalDelta("No more."),
        ChoiceFinished(FinishReason.STOP),
        Finished(Usage(5, 2)),
    ]
    async with running_api(Scripted(steps)) as api:
        answer = await with_sdk(
            api,
            lambda sdk: sdk.responses.create(
                model="tiny", input="hi", include=["message.output_text.logprobs"], top_logprobs=1
            ),
        )
        wanted = api.scripted.requests[0].top_logprobs
    (message,) = answer.output
    assert message.type == "message"
    text, refusal = message.content
    assert text.type == "output_text"
    assert refusal.type == "refusal"
    assert text.logprobs is not None
    assert text.logprobs[0].top_logprobs[0].logprob == -0.5
    assert (refusal.refusal, wanted, answer.top_logprobs) == ("No more.", 1, 1)


async def test_in_the_background_from_queued_to_completed_and_taken_up_again() -> None:
    def call(sdk: OpenAI) -> tuple[str | None, list[str], str]:
        begun = sdk.responses.create(model="tiny", input="hi", background=True)
        events = list(sdk.responses.retrieve(begun.id, stream=True))
        rest = list(sdk.responses.retrieve(begun.id, stream=True, starting_after=events[3].sequence_number))
        assert [event.sequence_number for event in rest] == [event.sequence_number for event in events[4:]]
        with sdk.responses.stream(response_id=begun.id, starting_after=0) as stream:
            text = stream.get_final_response().output_text
        return begun.status, kinds(events), text

    async with running_api(Scripted(spoken("Hel", "lo"))) as api:
        status, told, text = await with_sdk(api, call)
    assert status == "queued"
    assert told[:3] == ["created", "queued", "in_progress"]
    assert (told[-1], text) == ("completed", "Hello")


async def test_cancelling() -> None:
    def call(sdk: OpenAI) -> str | None:
        begun = sdk.responses.create(model="tiny", input="hi", background=True)
        trio.from_thread.run(api.scripted.entered.wait)
        return sdk.responses.cancel(begun.id).status

    steps: list[Step] = [Started(5), TextDelta("a"), trio.sleep_forever]
    async with running_api(Scripted(steps)) as api:
        assert await with_sdk(api, call) == "cancelled"
        assert api.scripted.inside == 0


async def test_counting() -> None:
    async with running_api(Scripted([Started(9), Counted(9), Finished(Usage(9))])) as api:
        found = await with_sdk(
            api, lambda sdk: sdk.responses.input_tokens.count(model="tiny", input="hi", tools=[WEATHER])
        )
    assert (found.input_tokens, found.object) == (9, "response.input_tokens")


async def test_errors_before_and_after_the_stream_began() -> None:
    def before(sdk: OpenAI) -> openai.BadRequestError:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(model="tiny", input="hi", stream=True)
        return caught.value

    def after(sdk: OpenAI) -> str | None:
        last = list(sdk.responses.create(model="tiny", input="hi", stream=True))[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        return last.response.error.type

    refusal = ContextLengthExceeded("the prompt has 9000 tokens, the context 8192.", param="input")
    async with running_api(Scripted([], refusal=refusal)) as api:
        assert (await with_sdk(api, before)).code == "context_length_exceeded"
    async with running_api(Scripted([Started(5), TextDelta("Hel"), Failed("worker_died", "it died.")])) as api:
        assert await with_sdk(api, after) == "worker_died"


async def test_an_unknown_field_is_a_400_that_names_it() -> None:
    def call(sdk: OpenAI) -> openai.BadRequestError:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(model="tiny", input="hi", extra_body={"inptu": 1})
        return caught.value

    async with running_api() as api:
        assert (await with_sdk(api, call)).param == "inptu"
