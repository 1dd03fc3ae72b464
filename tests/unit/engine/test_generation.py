"""The events of one request, from its tokens. The loop's tests show them in their order; here are the corners."""

from __future__ import annotations

import pytest

from meshnode.domain import FinishReason, Sampling, Stopping
from meshnode.engine.choice import Choice
from meshnode.engine.fake import FakeBackend
from meshnode.engine.generation import Generation
from meshnode.engine.pipe import UNLIMITED
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.events import ChoiceFinished, Event, Finished, Prefilling, Queued, Started, TextDelta
from tests.kit.driven import Driven, asking

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def generation(
    prompt: int = 4, *, stopping: Stopping | None = None, count: int = 1, credit: int = UNLIMITED
) -> Generation:
    """A request whose tokens are bytes, submitted at second 1."""
    leader = TokenSequence(1, [0] * prompt, limit=100, stopping=stopping or Stopping(), credit=credit)

    def make(index: int, sequence: TokenSequence) -> Choice:
        return Choice(index, sequence, Sampler(Sampling(), seed=5, choice=index), lambda token: bytes((token,)))

    return Generation(1, leader, make, count=count, seed=5, now=1.0)


def say(it: Generation, data: bytes, ending: Ending | None = None, *, choice: int = 0) -> list[Event]:
    """Draw these bytes; the ending comes with the last."""
    events: list[Event] = []
    for index, token in enumerate(data):
        spoken = it.choices[choice]
        spoken.sequence.accept(token, ends_generation=False)
        events += it.take(spoken, token, ending if index == len(data) - 1 else None, 4.0)
    return events


def prefilled(it: Generation, start: int, done: int) -> list[Event]:
    return list(it.prefill(it.leader, start, done))


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
    assert (prefilled(generation(), 0, 4)) == []
    assert (prefilled(generation(), 0, 3)) == [Prefilling(done=3, total=4)]
    assert (prefilled(generation(), 3, 4)) == [Prefilling(done=4, total=4)]


def test_recomputing_an_answer_is_no_progress() -> None:
    it = generation()
    say(it, b"abc")
    assert prefilled(it, 0, 5) == []


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
    it.leader.accept(97, ends_generation=False)
    list(it.take(it.choices[0], 97, None, 2.5))
    it.leader.accept(97, ends_generation=False)
    last = list(it.take(it.choices[0], 97, Ending(LENGTH), 4.5))[-1]
    assert isinstance(last, Finished)
    assert (last.timings.queue_ms, last.timings.prompt_ms, last.timings.predicted_ms) == (500, 1000, 2000)
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 2)


@pytest.mark.parametrize("closing", [Ending(LENGTH), Ending(STOP, 1)])
def test_it_knows_when_it_is_over(closing: Ending) -> None:
    it = generation()
    assert not it.closed
    list(it.end(it.choices[0], closing, 2.0))
    assert it.closed


# --- several answers --------------------------------------------------------------------------


def test_answers_begin_once_the_prompt_is_computed_and_share_it() -> None:
    it = generation(count=3)
    assert len(it.choices) == 1
    first, *others = it.fork()
    assert [choice.index for choice in it.choices] == [0, 1, 2]
    assert all(other.sequence.tokens == first.sequence.tokens for other in others)
    assert all(other.sequence.charged == 4 for other in others)
    assert it.fork() == it.choices


def test_request_ends_with_the_last_of_its_answers() -> None:
    it = generation(count=2)
    it.fork()
    one = say(it, b"a", Ending(LENGTH))
    assert one[-1] == ChoiceFinished(reason=LENGTH, choice=0)
    two = say(it, b"bc", Ending(STOP), choice=1)
    assert two[-2] == ChoiceFinished(reason=STOP, choice=1)
    assert isinstance(two[-1], Finished)
    assert (two[-1].usage.prompt_tokens, two[-1].usage.completion_tokens) == (4, 3)


@pytest.mark.parametrize("credit", [0, 1, 7, 100])
def test_credit_is_dealt_out_and_never_made(credit: int) -> None:
    it = generation(count=3, credit=credit)
    it.fork()
    shares = [choice.sequence.credit for choice in it.choices]
    assert sum(shares) == credit
    assert max(shares) - min(shares) <= 1
    it.grant(5, 0)
    it.grant(1, 0)
    assert sum(choice.sequence.credit for choice in it.choices) == credit + 6


def test_single_grants_reach_every_answer() -> None:
    it = generation(count=3, credit=0)
    it.fork()
    for _ in range(3):
        it.grant(1, 0)
    assert [choice.sequence.credit for choice in it.choices] == [1, 1, 1]


def test_credit_of_an_answer_that_ended_goes_to_the_others() -> None:
    it = generation(count=2, credit=10)
    it.fork()
    say(it, b"a", Ending(STOP))
    assert [choice.sequence.credit for choice in it.choices] == [0, 10]


def test_without_bounds_there_is_nothing_to_share() -> None:
    it = generation(count=2)
    it.fork()
    it.grant(3, 3)
    assert [choice.sequence.credit for choice in it.choices] == [UNLIMITED, UNLIMITED]


# --- several answers, computed -----------------------------------------------------------------


def texts(driven: Driven, number: int, count: int) -> list[str]:
    """The answers of one request."""
    return [driven.text(number, choice) for choice in range(count)]


SEEDED = Sampling(seed=11, temperature=1.5)
TEN = Stopping(max_tokens=10, ignore_eos=True)


def test_answers_of_one_request_differ_and_the_first_is_that_of_a_single_one() -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(asking("abc", sampling=SEEDED, stopping=TEN, choices=3))
    driven.run()
    found = texts(driven, number, 3)
    assert len(set(found)) == 3
    assert found[0] == Driven(FakeBackend()).ask(asking("abc", sampling=SEEDED, stopping=TEN))
    usage = driven.finished(number).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (4, 30)
    assert [event.choice for event in driven.events(number) if isinstance(event, ChoiceFinished)] == [0, 1, 2]


def test_answers_are_the_same_when_there_is_room_for_one_at_a_time_only() -> None:
    request = asking("abc", sampling=SEEDED, stopping=TEN, choices=4)
    wide, narrow = Driven(FakeBackend(n_seq_max=8)), Driven(FakeBackend(n_ctx=40, n_seq_max=1))
    one, other = wide.submit(request), narrow.submit(request)
    assert texts(wide.run(), one, 4) == texts(narrow.run(), other, 4)


@pytest.mark.parametrize("credit", [0, 1, 5])
def test_answers_never_outrun_the_credit_they_share(credit: int) -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(asking("abc", sampling=SEEDED, stopping=TEN, choices=3), credit)
    driven.run()
    assert sum(map(len, texts(driven, number, 3))) == 3 + credit
    while not driven.events(number) or not isinstance(driven.events(number)[-1], Finished):
        driven.grant(number, 1)
        driven.run()
    assert [len(text) for text in texts(driven, number, 3)] == [10, 10, 10]


def test_cancelling_a_request_frees_all_its_answers() -> None:
    backend = FakeBackend(n_seq_max=2)
    driven = Driven(backend)
    number = driven.submit(asking("abc", sampling=SEEDED, choices=5))
    for _ in range(4):
        driven.step()
    driven.cancel(number)
    gauge = driven.run().loop.gauge()
    assert (gauge.running, gauge.waiting, gauge.kv_used, backend.cells_used) == (0, 0, 0, gauge.kv_idle)
