"""The events of one request, from its tokens. The loop's tests show them in their order; here are the corners."""

from __future__ import annotations

import pytest

from meshnode.domain import FinishReason, Sampling, Stopping
from meshnode.engine.generation import Generation
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.events import ChoiceFinished, Event, Finished, Prefilling, Queued, Started, TextDelta

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def generation(prompt: int = 4, *, stopping: Stopping | None = None) -> Generation:
    """A request whose tokens are bytes, submitted at second 1."""
    sequence = TokenSequence(1, [0] * prompt, limit=100, stopping=stopping or Stopping())
    sampler = Sampler(Sampling(), seed=5, choice=0)
    return Generation(sequence, sampler, seed=5, piece=lambda token: bytes((token,)), now=1.0)


def say(it: Generation, data: bytes, ending: Ending | None = None) -> list[Event]:
    """Draw these bytes; the ending comes with the last."""
    events: list[Event] = []
    for index, token in enumerate(data):
        it.sequence.accept(token, ends_generation=False)
        events += it.take(token, ending if index == len(data) - 1 else None, 4.0)
    return events


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_place_in_the_queue_is_told_once() -> None:
    it = generation()
    told = [event for position in (3, 3, 2, 1, 1) for event in it.queue(position)]
    assert told == [Queued(position=3), Queued(position=2), Queued(position=1)]


def test_coming_back_from_preemption_says_nothing() -> None:
    it = generation()
    assert list(it.admit(2.0)) == [Started(prompt_tokens=4, seed=5)]
    assert list(it.queue(1)) == []
    assert list(it.admit(3.0)) == []


def test_progress_only_of_prompts_in_more_than_one_chunk() -> None:
    assert list(generation().prefill(0, 4)) == []
    assert list(generation().prefill(0, 3)) == [Prefilling(done=3, total=4)]
    assert list(generation().prefill(3, 4)) == [Prefilling(done=4, total=4)]


def test_recomputing_an_answer_is_no_progress() -> None:
    it = generation()
    say(it, b"abc")
    assert list(it.prefill(0, 5)) == []


def test_token_ids_come_with_the_text_they_completed() -> None:
    euro = "€".encode()
    assert say(generation(), euro) == [TextDelta(text="€", token_ids=tuple(euro))]


def test_half_a_character_at_the_end_is_replaced() -> None:
    events = say(generation(), b"a\xe2\x82", Ending(LENGTH))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "a\N{REPLACEMENT CHARACTER}"


def test_text_of_an_end_token_is_not_sent() -> None:
    events = say(generation(), b"ab", Ending(STOP, ord("b")))
    assert kinds(events) == ["TextDelta", "ChoiceFinished", "Finished"]
    assert events[1] == ChoiceFinished(reason=STOP)


def test_stop_string_in_the_last_allowed_token_is_a_stop() -> None:
    events = say(generation(stopping=Stopping(stop=("b",))), b"ab", Ending(LENGTH))
    assert events[-2] == ChoiceFinished(reason=STOP, stop="b")


def test_held_back_text_comes_out_at_the_end() -> None:
    events = say(generation(stopping=Stopping(stop=("abX",))), b"ab", Ending(LENGTH))
    assert kinds(events) == ["TextDelta", "ChoiceFinished", "Finished"]
    assert events[0] == TextDelta(text="ab", token_ids=(97, 98))


def test_times_are_of_queue_prompt_and_answer() -> None:
    it = generation()
    list(it.admit(1.5))
    it.sequence.accept(97, ends_generation=False)
    list(it.take(97, None, 2.5))
    it.sequence.accept(97, ends_generation=False)
    last = list(it.take(97, Ending(LENGTH), 4.5))[-1]
    assert isinstance(last, Finished)
    assert (last.timings.queue_ms, last.timings.prompt_ms, last.timings.predicted_ms) == (500, 1000, 2000)
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 2)


@pytest.mark.parametrize("closing", [Ending(LENGTH), Ending(STOP, 1)])
def test_it_knows_when_it_is_over(closing: Ending) -> None:
    it = generation()
    assert not it.closed
    list(it.end(closing, 2.0))
    assert it.closed
