"""The meter: both ends count the same from the same events, and a claim that cannot be adds nothing."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    EmbeddingResult,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Prefilling,
    Queued,
    ReasoningDelta,
    Resumed,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from meshnode.ledger.meter import MOST, Meter

COUNTS = st.integers(-(2**63), 2**64 - 1) | st.integers(0, 100)
TOKENS = st.lists(st.integers(0, 9), max_size=4).map(tuple)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, COUNTS, COUNTS),
    st.builds(Prefilling, COUNTS, COUNTS),
    st.builds(TextDelta, st.just("x"), st.just(0), TOKENS),
    st.builds(ReasoningDelta, st.just("x"), st.just(0), TOKENS),
    st.builds(ToolCallStarted, st.just(0), st.just("a"), st.just("b"), st.just(0), TOKENS),
    st.builds(ToolCallDelta, st.just(0), st.just("{"), st.just(0), TOKENS),
    st.sampled_from([Heartbeat(), Queued(1), Resumed(3)]),
    st.sampled_from([ChoiceFinished(FinishReason.STOP), Finished(Usage()), Failed("overloaded", "full")]),
)


def counted(*events: Event) -> tuple[int, int, int]:
    """Prompt, cached and output tokens after these events."""
    meter = Meter()
    for event in events:
        meter.take(event)
    return meter.prompt, meter.cached, meter.output


def test_nothing_counts_before_anything_was_computed() -> None:
    assert counted(Queued(2), Started(100, 20)) == (0, 0, 0)
    assert counted(Started(100, 20), Failed("model_failed", "gone")) == (0, 0, 0)


def test_the_prompt_counts_as_it_is_computed_and_wholly_with_the_first_text() -> None:
    said: list[Event] = [Started(10_000), Prefilling(4096, 10_000), Prefilling(8192, 10_000)]
    assert counted(*said[:2]) == (4096, 0, 0)
    assert counted(*said) == (8192, 0, 0)
    assert counted(*said, TextDelta("hi", 0, (1, 2))) == (10_000, 0, 2)


def test_what_was_cached_is_counted_as_that() -> None:
    assert counted(Started(100, 60), Prefilling(60, 100)) == (0, 60, 0)
    assert counted(Started(100, 60), Prefilling(80, 100)) == (20, 60, 0)
    assert counted(Started(100, 60), Finished(Usage())) == (40, 60, 0)


def test_a_failure_costs_what_was_computed_until_then() -> None:
    assert counted(Started(9000), Prefilling(4096, 9000), Failed("worker_died", "gone")) == (4096, 0, 0)


def test_a_delta_counts_its_tokens_and_at_least_one() -> None:
    assert counted(TextDelta("a"), ReasoningDelta("b", 0, (1, 2, 3)), ToolCallDelta(0, "{")) == (0, 0, 5)


def test_a_call_counts_the_tokens_it_names() -> None:
    assert counted(ToolCallStarted(0, "a", "b"), ToolCallDelta(0, "{")) == (0, 0, 1)
    assert counted(ToolCallStarted(0, "a", "b", 0, (1, 2)), ToolCallDelta(0, "{}", 0, (3, 4))) == (0, 0, 4)


def test_a_second_start_is_ignored() -> None:
    assert counted(Started(10), Started(5000, 3), TextDelta("a")) == (10, 0, 1)


def test_a_provider_cannot_count_a_prompt_longer_than_it_is() -> None:
    assert counted(Prefilling(10**9, 10**9)) == (0, 0, 0)
    assert counted(Started(10), Prefilling(10**9, 10**9)) == (10, 0, 0)
    assert counted(Started(-5, -9), TextDelta("a")) == (0, 0, 1)
    assert counted(Started(10, 99), TextDelta("a")) == (0, 10, 1)
    assert counted(Started(2**40), TextDelta("a")) == (MOST, 0, 1)


@given(st.lists(EVENTS, max_size=30), st.lists(st.integers(0, 30)))
def test_how_events_are_packed_makes_no_difference(events: list[Event], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    frames = [events[start:end] for start, end in itertools.pairwise(edges)]
    assert counted(*itertools.chain.from_iterable(frames)) == counted(*events)


@given(st.integers(1, 5000), st.lists(st.integers(0, 5000)), st.lists(st.integers(1, 9), min_size=1))
def test_how_finely_work_is_told_makes_no_difference(prompt: int, told: list[int], tokens: list[int]) -> None:
    """An engine may tell of a prompt in any slices and of tokens one by one or many at once."""
    fine: list[Event] = [Prefilling(min(done, prompt), prompt) for done in told]
    fine += [TextDelta("x", 0, (1,)) for _ in range(sum(tokens))]
    coarse = [TextDelta("x" * n, 0, (1,) * n) for n in tokens]
    assert counted(Started(prompt, 1), *fine) == counted(Started(prompt, 1), *coarse) == (prompt - 1, 1, sum(tokens))


@given(st.lists(EVENTS, max_size=30))
def test_no_event_takes_a_count_back(events: list[Event]) -> None:
    counts = [counted(*events[:n]) for n in range(len(events) + 1)]
    for before, after in itertools.pairwise(counts):
        assert all(0 <= b <= a <= MOST for b, a in zip(before, after, strict=True))


def test_a_vector_alone_pays_for_nothing_and_the_end_for_all() -> None:
    meter = Meter()
    for event in (Started(300), EmbeddingResult(0, bytes(4)), EmbeddingResult(1, bytes(4))):
        meter.take(event)
    assert (meter.prompt, meter.output) == (0, 0)
    meter.take(Prefilling(200, 300))
    assert meter.prompt == 200
    meter.take(Finished(Usage(prompt_tokens=300)))
    assert (meter.prompt, meter.output) == (300, 0)


def test_what_one_more_token_makes_of_the_counts() -> None:
    meter = Meter()
    assert meter.ahead() == (0, 0, 1)
    meter.take(Started(100, 40))
    assert meter.ahead() == (60, 40, 1), "the whole prompt is owed with the first token"
    meter.take(TextDelta("ab", 0, (1, 2)))
    assert meter.ahead() == (60, 40, 3)
    assert (meter.prompt, meter.cached, meter.output) == (60, 40, 2)
