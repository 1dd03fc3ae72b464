"""Chat answers in OpenAI's shape."""

from __future__ import annotations

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from meshnode.api.chat import ChatRenderer
from meshnode.api.render import Heading
from meshnode.domain import FinishReason, ModelId
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)

HEADING = Heading("chatcmpl-1", 1700000000, ModelId("tiny"), "fp_1")
EVENTS: list[Event] = [
    Started(5),
    ReasoningDelta("hm"),
    TextDelta("a"),
    TextDelta("b", choice=1),
    TextDelta("c"),
    ChoiceFinished(FinishReason.LENGTH, 1),
    ChoiceFinished(FinishReason.STOP, 0),
    Finished(Usage(5, 3)),
]


def test_the_role_comes_once_with_the_first_delta_of_each_choice() -> None:
    chunks = ChatRenderer(HEADING, include_usage=False).chunks(EVENTS)
    opened = [chunk["choices"][0]["index"] for chunk in chunks if "role" in chunk["choices"][0]["delta"]]
    assert opened == [0, 1]
    assert "role" in chunks[0]["choices"][0]["delta"]


def test_every_chunk_validates_and_carries_the_same_head() -> None:
    for include_usage in (False, True):
        chunks = ChatRenderer(HEADING, include_usage=include_usage).chunks(EVENTS)
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
            assert (chunk["id"], chunk["created"], chunk["model"]) == HEADING[:3]
            assert ("usage" in chunk) is include_usage


def test_usage_is_null_on_all_but_the_last_which_has_no_choices() -> None:
    *rest, last = ChatRenderer(HEADING, include_usage=True).chunks(EVENTS)
    assert [chunk["usage"] for chunk in rest] == [None] * len(rest)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 8
    assert "timings" in last


def test_finish_reasons_belong_to_their_choices() -> None:
    chunks = ChatRenderer(HEADING, include_usage=False).chunks(EVENTS)
    choices = [chunk["choices"][0] for chunk in chunks]
    ends = [(choice["index"], choice["finish_reason"]) for choice in choices if choice["finish_reason"]]
    assert ends == [(1, "length"), (0, "stop")]


def test_the_whole_answer_holds_every_choice() -> None:
    renderer = ChatRenderer(HEADING, include_usage=False)
    for event in EVENTS:
        renderer.collect(event)
    whole = renderer.whole()
    ChatCompletion.model_validate(whole, strict=True)
    said = [(choice["message"]["content"], choice["finish_reason"]) for choice in whole["choices"]]
    assert said == [("ac", "stop"), ("b", "length")]
    assert whole["choices"][0]["message"]["reasoning_content"] == "hm"
    assert whole["usage"]["completion_tokens"] == 3


def test_an_answer_without_text_still_opens_and_closes() -> None:
    chunks = ChatRenderer(HEADING, include_usage=False).chunks([Started(5), ChoiceFinished(FinishReason.STOP)])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]


# --- calls and logprobs -----------------------------------------------------------------------

CALLS: list[Event] = [
    Started(5),
    ToolCallStarted(0, "c1", "f"),
    ToolCallDelta(0, '{"a"'),
    ToolCallDelta(0, ": 1}"),
    ToolCallStarted(1, "c2", "g"),
    ToolCallDelta(1, "{}"),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    Finished(Usage(5, 9)),
]


def collected(events: list[Event]) -> ChatCompletion:
    """The one-shot answer, checked against OpenAI's type."""
    renderer = ChatRenderer(HEADING, include_usage=False)
    for event in events:
        renderer.collect(event)
    return ChatCompletion.model_validate(renderer.whole(), strict=True)


def test_calls_of_a_whole_answer() -> None:
    (choice,) = collected(CALLS).choices
    calls = [call.model_dump(exclude_none=True) for call in choice.message.tool_calls or ()]
    assert calls == [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


def test_id_and_name_of_a_call_come_once_and_its_index_always() -> None:
    chunks = ChatRenderer(HEADING, include_usage=False).chunks(CALLS)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert [(call["index"], call.get("id"), call["function"].get("name")) for call in deltas] == [
        (0, "c1", "f"),
        (0, None, None),
        (0, None, None),
        (1, "c2", "g"),
        (1, None, None),
    ]


def test_logprobs_in_both_shapes() -> None:
    one = TokenLogprob(7, b"\xe2\x82", -0.5, ((7, b"\xe2\x82", -0.5), (8, b"a", -1.5)))
    events: list[Event] = [TextDelta("x", logprobs=(one,)), ChoiceFinished(FinishReason.STOP), Finished(Usage(1, 1))]
    (choice,) = collected(events).choices
    assert choice.logprobs is not None
    (token,) = choice.logprobs.content or []
    assert (token.token, token.bytes, token.logprob) == ("\ufffd", [0xE2, 0x82], -0.5)
    assert [top.token for top in token.top_logprobs] == ["\ufffd", "a"]
    spoken = ChatRenderer(HEADING, include_usage=False).chunks(events)[1]
    assert spoken["choices"][0]["logprobs"] == choice.logprobs.model_dump()


CALL: list[Event] = [
    Started(5),
    ToolCallStarted(0, "c1", "look_up"),
    ToolCallDelta(0, '{"a":'),
    ToolCallDelta(0, " 1}"),
    ChoiceFinished(FinishReason.TOOL_CALLS),
    Finished(Usage(5, 3)),
]


def test_who_asked_with_functions_is_told_of_a_function_call() -> None:
    renderer = ChatRenderer(HEADING, include_usage=True, echo={"functions": True})
    for event in CALL:
        renderer.collect(event)
    whole = renderer.whole()
    ChatCompletion.model_validate(whole, strict=True)
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "look_up", "arguments": '{"a": 1}'}
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] is None


def test_a_streamed_function_call_comes_in_the_words_of_before_tools() -> None:
    chunks = ChatRenderer(HEADING, include_usage=False, echo={"functions": True}).chunks(CALL)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert calls == [{"name": "look_up", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": " 1}"}]
    assert not any("tool_calls" in delta for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
