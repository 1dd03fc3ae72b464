"""Completions in OpenAI's shape."""

from __future__ import annotations

from openai.types import Completion

from meshnode.api.completions import CompletionRenderer
from meshnode.api.render import Heading
from meshnode.domain import FinishReason, ModelId
from meshnode.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage

HEADING = Heading("cmpl-1", 1700000000, ModelId("tiny"), "fp_1")
EVENTS: list[Event] = [
    Started(5),
    TextDelta("a"),
    TextDelta("b"),
    ChoiceFinished(FinishReason.LENGTH),
    Finished(Usage(5, 2)),
]


def test_a_stream_is_text_then_a_reason_then_usage_where_asked() -> None:
    chunks = CompletionRenderer(HEADING, include_usage=True).chunks(EVENTS)
    assert [(c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in chunks[:-1]] == [
        ("a", None),
        ("b", None),
        ("", "length"),
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 3
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7


def test_without_usage_nothing_follows_the_reason() -> None:
    chunks = CompletionRenderer(HEADING, include_usage=False).chunks(EVENTS)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert all("usage" not in chunk for chunk in chunks)


def test_the_whole_answer() -> None:
    renderer = CompletionRenderer(HEADING, include_usage=False)
    for event in EVENTS:
        renderer.collect(event)
    whole = renderer.whole()
    Completion.model_validate(whole, strict=True)
    assert whole["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "length"}]
    assert whole["usage"]["completion_tokens"] == 2
