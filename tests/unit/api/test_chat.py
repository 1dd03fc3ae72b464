"""Chat answers in OpenAI's shape."""

from __future__ import annotations

from openai.types.chat import ChatCompletion, ChatCompletionChunk

from meshnode.api.chat import ChatRenderer
from meshnode.api.render import Heading
from meshnode.domain import FinishReason, ModelId
from meshnode.events import ChoiceFinished, Event, Finished, ReasoningDelta, Started, TextDelta, Usage

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
