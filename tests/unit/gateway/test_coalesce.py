"""Events that say the same in fewer pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import FinishReason
from meshnode.events import (
    ChoiceFinished,
    Event,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    ReasoningDelta,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStarted,
)
from meshnode.gateway.coalesce import coalesce, lasting

SOME_EVENTS = st.lists(
    st.builds(TextDelta, text=st.text(max_size=3), choice=st.integers(0, 1), token_ids=st.just((1,)))
    | st.builds(ReasoningDelta, text=st.text(max_size=3), choice=st.integers(0, 1))
    | st.builds(ToolCallDelta, index=st.integers(0, 1), arguments=st.text(max_size=3), choice=st.integers(0, 1))
    | st.just(ChoiceFinished(FinishReason.STOP, 0))
)


def letters(events: list[Event]) -> list[tuple[object, ...]]:
    """Each character with where it belongs, and what is no text, in order."""
    found: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case TextDelta() | ReasoningDelta():
                found += [(type(event), event.choice, letter) for letter in event.text]
            case ToolCallDelta():
                found += [(type(event), event.choice, event.index, letter) for letter in event.arguments]
            case _:
                found.append((event,))
    return found


@settings(deadline=None)
@given(SOME_EVENTS)
def test_every_letter_stays_in_its_place_and_no_two_neighbours_are_of_one(events: list[Event]) -> None:
    joined = coalesce(events)
    assert letters(joined) == letters(events)
    assert coalesce(joined) == joined


def test_probabilities_stay_with_their_tokens() -> None:
    one, two = TokenLogprob(1, b"a", -1.0), TokenLogprob(2, b"b", -2.0)
    (joined,) = coalesce([TextDelta("a", logprobs=(one,)), TextDelta("b", logprobs=(two,))])
    assert joined == TextDelta("ab", logprobs=(one, two))


def test_what_lasts_is_what_was_said_without_waits_and_token_ids() -> None:
    waits: list[Event] = [Queued(1), Loading(0.5), Prefilling(1, 2), Heartbeat()]
    said: list[Event] = [
        Started(5),
        TextDelta("a", token_ids=(7,)),
        ReasoningDelta("b", token_ids=(7,)),
        ToolCallStarted(0, "c", "f", token_ids=(7,)),
        ToolCallDelta(0, "{}", token_ids=(7,)),
        ChoiceFinished(FinishReason.STOP),
    ]
    assert lasting([*waits, *said]) == [
        Started(5),
        TextDelta("a"),
        ReasoningDelta("b"),
        ToolCallStarted(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        ChoiceFinished(FinishReason.STOP),
    ]
