"""What the renderers share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.api.render import Collected, coalesce, fingerprint, overhead_ms, timings, usage, waiting
from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    Usage,
)

some_events = st.lists(
    st.builds(TextDelta, text=st.text(max_size=3), choice=st.integers(0, 2))
    | st.builds(ReasoningDelta, text=st.text(max_size=3), choice=st.integers(0, 1))
    | st.just(ChoiceFinished(FinishReason.STOP, 0))
)


def texts(events: list[Event]) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta):
            key = (type(event).__name__, event.choice)
            found[key] = found.get(key, "") + event.text
    return found


@settings(deadline=None)
@given(some_events)
def test_coalescing_keeps_every_choices_text_and_never_two_neighbours_of_one(events: list[Event]) -> None:
    joined = coalesce(events)
    assert texts(joined) == texts(events)
    for one, two in pairwise(joined):
        if type(one) is type(two) and isinstance(one, TextDelta | ReasoningDelta):
            assert one.choice != two.choice  # type: ignore[union-attr]


def test_usage_and_timings_in_openais_and_llama_cpps_words() -> None:
    finished = Finished(Usage(10, 4, 6, 1), Timings(queue_ms=3, prompt_ms=8, predicted_ms=100))
    assert usage(finished.usage) == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert timings(finished) == {
        "cache_n": 6,
        "prompt_n": 4,
        "prompt_ms": 8,
        "prompt_per_second": 500,
        "predicted_n": 4,
        "predicted_ms": 100,
        "predicted_per_second": 40,
        "queue_ms": 3,
    }
    assert timings(Finished(Usage()))["predicted_per_second"] == 0


def test_overhead_is_what_is_left_and_never_negative() -> None:
    assert overhead_ms(Timings(1, 2, 3), 10) == 4
    assert overhead_ms(Timings(10, 20, 30), 10) == 0


def test_the_fingerprint_changes_with_the_weights_and_the_version() -> None:
    same = fingerprint("1", "m", "abc")
    assert same == fingerprint("1", "m", "abc")
    assert len({same, fingerprint("2", "m", "abc"), fingerprint("1", "n", "abc"), fingerprint("1", "m", "abd")}) == 4


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Queued(3), "queued, position 3"),
        (Loading(0.25), "loading the model, 25%"),
        (Prefilling(5, 9), "reading the prompt, 5 of 9 tokens"),
        (Started(1), "waiting"),
        (None, "waiting"),
    ],
)
def test_words_while_waiting(event: Event | None, said: str) -> None:
    assert waiting(event) == said


def test_a_collected_answer_has_a_choice_even_when_nothing_was_said() -> None:
    assert Collected().choices() == [0]
