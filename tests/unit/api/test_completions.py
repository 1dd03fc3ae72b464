"""Completions in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai.types import Completion

from meshnode.api.completions import CompletionRenderer
from meshnode.api.render import Heading
from meshnode.domain import FinishReason, ModelId
from meshnode.events import ChoiceFinished, Event, Finished, Started, TextDelta, TokenLogprob, Usage

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


def spoken(*answers: tuple[str, float]) -> list[Event]:
    """One token for each answer, with its log probability."""
    events: list[Event] = [Started(5)]
    for choice, (text, logprob) in enumerate(answers):
        said = (TokenLogprob(1, text.encode(), logprob),)
        events += [TextDelta(text, choice, (1,), said), ChoiceFinished(FinishReason.STOP, choice)]
    return [*events, Finished(Usage(5, len(answers)))]


def whole(events: list[Event], echo: Mapping[str, Any]) -> dict[str, Any]:
    """The one-shot answer to a request with this echo."""
    renderer = CompletionRenderer(HEADING, include_usage=True, echo=echo)
    for event in events:
        renderer.collect(event)
    made = renderer.whole()
    Completion.model_validate(made, strict=True)
    return made


def test_the_likeliest_answers_to_each_prompt_are_shown_in_that_order() -> None:
    events = spoken(("a", -3.0), ("b", -1.0), ("c", -2.0), ("d", -1.0), ("e", -9.0), ("f", -0.5))
    made = whole(events, {"n": 2, "best_of": 3, "logprobs": False})
    assert [(choice["index"], choice["text"]) for choice in made["choices"]] == [(0, "b"), (1, "c"), (2, "f"), (3, "d")]
    assert [choice["logprobs"] for choice in made["choices"]] == [None] * 4
    assert made["usage"]["completion_tokens"] == 6, "what was made and discarded was computed too"


def test_the_mean_counts_and_an_answer_without_a_token_is_last() -> None:
    events = spoken(("a", -1.0), ("b", -1.5))
    events[1:1] = [TextDelta("long", 0, (2,), (TokenLogprob(2, b"long", -3.0),))]
    events.insert(-1, ChoiceFinished(FinishReason.STOP, 2))
    made = whole(events, {"n": 2, "best_of": 3, "logprobs": True})
    assert [choice["text"] for choice in made["choices"]] == ["b", "longa"]
    assert made["choices"][0]["logprobs"]["token_logprobs"] == [-1.5]


def test_a_prompt_is_repeated_once_before_each_of_its_answers() -> None:
    events = spoken(("1", 0.0), ("2", 0.0), ("3", 0.0), ("4", 0.0))
    echo = {"prompts": ["p: ", "q: "], "n": 2}
    assert [choice["text"] for choice in whole(events, echo)["choices"]] == ["p: 1", "p: 2", "q: 3", "q: 4"]
    chunks = CompletionRenderer(HEADING, include_usage=False, echo=echo).chunks([*events[:3], *events[1:]])
    streamed = ["".join(c["text"] for chunk in chunks for c in chunk["choices"] if c["index"] == n) for n in range(4)]
    assert streamed == ["p: 11", "p: 2", "q: 3", "q: 4"]


def test_an_answer_without_a_word_repeats_its_prompt_all_the_same() -> None:
    events: list[Event] = [Started(1), ChoiceFinished(FinishReason.STOP), Finished(Usage(1, 0))]
    (chunk,) = CompletionRenderer(HEADING, include_usage=False, echo={"prompts": ["p"]}).chunks(events)
    assert chunk["choices"][0]["text"] == "p"
    assert whole(events, {"prompts": ["p"]})["choices"][0]["text"] == "p"
