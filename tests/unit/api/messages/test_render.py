"""Answers in Anthropic's shape: the stream's order, and the same message whole or piece by piece."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.messages.render import MessagesRenderer
from meshnode.api.render import Heading, coalesce
from meshnode.domain import FinishReason, ModelId
from meshnode.errors import InternalFault, Overloaded, ProtocolViolation
from meshnode.events import (
    Charge,
    ChoiceFinished,
    Event,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from tests.kit.anthropic_shapes import Mesh, Message, Reading, Text, Thinking, ToolUse, events, message, read

HEADING = Heading("msg_1", 1_700_000_000, ModelId("tiny"), "fp_1")
ECHO: dict[str, Any] = {"max_tokens": 100, "stop_sequences": ["END"]}
FINISHED = Finished(Usage(prompt_tokens=9, completion_tokens=6, cached_tokens=4, reasoning_tokens=2), Timings())
STOP = ChoiceFinished(FinishReason.STOP)
TOOLS: list[Event] = [
    Loading(0.5),
    Started(9, 4),
    Prefilling(4, 9),
    ReasoningDelta("hm"),
    ReasoningDelta(" ok"),
    TextDelta("let me"),
    Heartbeat(),
    ToolCallStarted(0, "call_1", "f"),
    ToolCallDelta(0, '{"a"'),
    ToolCallDelta(0, ": 1}"),
    ToolCallStarted(1, "call_2", "g"),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    FINISHED,
]


def renderer(**echo: Any) -> MessagesRenderer:
    return MessagesRenderer(HEADING, include_usage=True, echo=ECHO | echo)


def whole(answer: list[Event], **echo: Any) -> Message:
    making = renderer(**echo)
    for event in answer:
        making.collect(event)
    return message(making.whole())


def streamed(answer: list[Event], **echo: Any) -> Reading:
    return read(events(renderer(**echo).chunks(answer)))


def test_a_stream_has_this_order() -> None:
    chunks = renderer().chunks(TOOLS)
    assert [chunk["type"].removeprefix("content_block_") for chunk in chunks] == [
        "message_start",
        *("start", "delta", "delta", "delta", "stop"),
        *("start", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "stop"),
        "message_delta",
        "message_stop",
    ]
    assert chunks[0]["message"]["usage"]["input_tokens"] == 5
    assert chunks[0]["message"]["usage"]["cache_read_input_tokens"] == 4
    assert [chunk["content_block"]["type"] for chunk in chunks if "content_block" in chunk] == [
        "thinking", "text", "tool_use", "tool_use",
    ]  # fmt: skip
    assert chunks[4]["delta"]["type"] == "signature_delta"
    assert chunks[-2]["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 6,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_nothing_is_sent_before_the_answer_begins() -> None:
    making = renderer()
    assert making.chunks([Loading(0.1), Heartbeat()]) == []
    assert [chunk["type"] for chunk in making.chunks([Started(3)])] == ["message_start"]
    assert making.chunks([Started(3), Prefilling(1, 3)]) == []


def test_a_message_whole() -> None:
    answer = whole(TOOLS)
    assert answer.content == [
        Thinking(thinking="hm ok", signature="mesh0.5c4fe771c5d91be3a772ec4f9aef58a8"),
        Text(text="let me"),
        ToolUse(id="call_1", name="f", input={"a": 1}),
        ToolUse(id="call_2", name="g", input={}),
    ]
    assert (answer.id, answer.model, answer.stop_reason) == ("msg_1", "tiny", "tool_use")


@pytest.mark.parametrize(
    ("ending", "echo", "reason", "stop"),
    [
        (STOP, {}, "end_turn", None),
        (ChoiceFinished(FinishReason.STOP, stop="END"), {}, "stop_sequence", "END"),
        (ChoiceFinished(FinishReason.STOP, stop="<eos>"), {}, "end_turn", None),
        (ChoiceFinished(FinishReason.LENGTH), {"max_tokens": 6}, "max_tokens", None),
        (ChoiceFinished(FinishReason.LENGTH), {"max_tokens": 7}, "model_context_window_exceeded", None),
        (ChoiceFinished(FinishReason.TOOL_CALLS), {}, "tool_use", None),
        (ChoiceFinished(FinishReason.CONTENT_FILTER), {}, "refusal", None),
    ],
)
def test_why_it_ended(ending: ChoiceFinished, echo: dict[str, Any], reason: str, stop: str | None) -> None:
    answer: list[Event] = [Started(9, 4), TextDelta("a"), ending, FINISHED]
    for told in (whole(answer, **echo), streamed(answer, **echo).message):
        assert told is not None
        assert (told.stop_reason, told.stop_sequence) == (reason, stop)
        assert (told.stop_details is not None) is (reason == "refusal")


def test_a_refusal_is_text_that_ends_as_one() -> None:
    told = whole([Started(9), RefusalDelta("no"), STOP, FINISHED])
    assert (told.content, told.stop_reason) == ([Text(text="no")], "refusal")


def test_thoughts_that_are_not_to_be_told_are_signed_only() -> None:
    told, reading = whole(TOOLS, omitted=True), streamed(TOOLS, omitted=True)
    assert told.content[0] == Thinking(thinking="", signature="mesh1.aG0gb2s=")
    assert reading.message is not None
    assert reading.message.content[0] == told.content[0]


def test_a_prompt_that_was_only_read_has_no_content() -> None:
    told, reading = whole(TOOLS, max_tokens=0), streamed(TOOLS, max_tokens=0)
    assert (told.content, told.stop_reason) == ([], "max_tokens")
    assert reading.message is not None
    assert (reading.message.content, reading.message.stop_reason) == ([], "max_tokens")


def test_notes_and_edits_are_told_where_there_are_any() -> None:
    told, reading = whole(TOOLS, notes=["n"], edits=True), streamed(TOOLS, notes=["n"], edits=True)
    assert reading.message is not None
    for each in (told, reading.message):
        assert each.mesh is not None
        assert each.mesh.notes == ["n"]
        assert each.context_management is not None
    assert whole(TOOLS).mesh is None


def test_what_a_peer_was_paid_is_told_at_the_end() -> None:
    paid = msgspec.structs.replace(FINISHED, charge=Charge(receipt="r1", cost_uc=42))
    answer: list[Event] = [Started(9), TextDelta("a"), STOP, paid]
    told = whole(answer, notes=["n"])
    assert told.mesh == Mesh(notes=["n"], receipt="r1", cost=42)
    assert renderer().chunks(answer)[-2]["mesh"] == {"receipt": "r1", "cost": 42}


def test_a_call_that_was_cut_off_keeps_what_was_complete() -> None:
    cut: list[Event] = [
        Started(9), ToolCallStarted(0, "c", "f"), ToolCallDelta(0, '{"a": 1, "b": "tw'),
        ChoiceFinished(FinishReason.LENGTH), FINISHED,
    ]  # fmt: skip
    assert whole(cut, max_tokens=6).content == [ToolUse(id="c", name="f", input={"a": 1, "b": "tw"})]


def test_an_answer_without_a_beginning_still_has_one() -> None:
    reading = streamed([TextDelta("a"), STOP, FINISHED])
    assert reading.message is not None
    assert reading.message.content == [Text(text="a")]
    empty = streamed([STOP, FINISHED])
    assert empty.message is not None
    assert empty.message.content == []


def test_an_error_in_the_middle_is_the_last_event() -> None:
    making = renderer()
    chunks = [*making.chunks(TOOLS[:6]), *making.failed(Overloaded("full."))]
    reading = read(events(chunks))
    assert reading.over
    assert reading.error is not None
    assert (reading.error.type, reading.error.message) == ("overloaded_error", "full.")
    before = read(events(renderer().failed(InternalFault("x."))))
    assert before.error is not None
    assert before.error.type == "api_error"


def test_calls_that_are_mixed_up_are_no_answer() -> None:
    with pytest.raises(ProtocolViolation):
        renderer().chunks([ToolCallStarted(0, "a", "f"), ToolCallStarted(1, "b", "f"), ToolCallDelta(0, "{}")])


TEXTS = st.text(alphabet="aé☃ ", max_size=4)
SPOKEN = st.one_of(
    st.builds(TextDelta, TEXTS), st.builds(ReasoningDelta, TEXTS), st.just(Heartbeat()), st.just(Prefilling(1, 2))
)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """An answer that goes well."""
    middle: list[Event] = list(draw(st.lists(SPOKEN, max_size=6)))
    calls = draw(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers() | TEXTS, max_size=2), max_size=2))
    for index, call in enumerate(calls):
        arguments = json.dumps(call)
        cut = draw(st.integers(0, len(arguments)))
        middle.append(ToolCallStarted(index, f"call_{index}", "f"))
        middle += [ToolCallDelta(index, arguments[:cut]), ToolCallDelta(index, arguments[cut:])]
    reason = FinishReason.TOOL_CALLS if calls else draw(st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]))
    return [Started(9, 4), *middle, ChoiceFinished(reason), FINISHED]


@given(answers(), st.lists(st.integers(1, 4)), st.booleans())
def test_at_every_chunking_the_stream_adds_up_to_the_whole(
    answer: list[Event], sizes: list[int], omitted: bool
) -> None:
    making, rest, chunks = renderer(omitted=omitted), list(answer), []
    for size in [*sizes, len(answer)]:
        chunks += making.chunks(coalesce(rest[:size]))
        rest = rest[size:]
    reading = read(events(chunks))
    assert reading.over
    assert reading.message == whole(answer, omitted=omitted)
