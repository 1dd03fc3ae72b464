"""One answer: its text from its tokens, and how it ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from meshnode.domain import FinishReason, Sampling, Stopping
from meshnode.engine.choice import Choice
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import Ending, TokenSequence
from meshnode.events import ChoiceFinished, Event, TextDelta


def choice(index: int = 0, *, stopping: Stopping | None = None) -> Choice:
    """An answer whose tokens are bytes, to a prompt of one."""
    sequence = TokenSequence(1, [0], limit=100, stopping=stopping or Stopping())
    return Choice(index, sequence, Sampler(Sampling(), seed=5, choice=index), lambda token: bytes((token,)))


def test_events_name_the_answer() -> None:
    it = choice(3)
    assert list(it.take(ord("a"), None)) == [TextDelta("a", 3, (97,))]
    assert list(it.take(ord("b"), Ending(FinishReason.LENGTH))) == [
        TextDelta("b", 3, (98,)),
        ChoiceFinished(FinishReason.LENGTH, 3),
    ]
    assert it.closed


def test_the_callers_stop_token_is_named_and_the_models_own_is_not() -> None:
    ends = Ending(FinishReason.STOP, ord("!"))
    named = choice(stopping=Stopping(stop_token_ids=(ord("!"),)))
    assert list(named.take(ord("!"), ends)) == [ChoiceFinished(FinishReason.STOP, 0, "!")]
    assert list(choice().take(ord("!"), ends)) == [ChoiceFinished(FinishReason.STOP, 0)]


def test_tokens_without_text_are_told_of_before_they_are_many() -> None:
    sequence = TokenSequence(1, [0], limit=100, stopping=Stopping())
    silent = Choice(0, sequence, Sampler(Sampling(), seed=5, choice=0), lambda token: b"")
    events = [event for token in range(20) for event in silent.take(token, None)]
    assert events == [TextDelta("", 0, tuple(range(16)))]


def test_an_answer_ends_once() -> None:
    it = choice()
    assert len(list(it.end(Ending(FinishReason.LENGTH)))) == 1
    assert list(it.end(Ending(FinishReason.LENGTH))) == []


def test_logprobs_come_with_the_text_of_their_tokens() -> None:
    sequence = TokenSequence(1, [0], limit=100, stopping=Stopping())
    sampler = Sampler(Sampling(temperature=0), seed=5, choice=0)
    it = Choice(0, sequence, sampler, lambda token: "€".encode()[token : token + 1], top_logprobs=1)
    events: list[Event] = []
    for token in range(3):
        row = np.zeros(4, dtype=np.float32)
        row[token] = 2.0
        events += it.take(it.draw(row, ()), None)
    (spoken,) = events
    assert isinstance(spoken, TextDelta)
    assert [one.token_id for one in spoken.logprobs] == [0, 1, 2] == list(spoken.token_ids)
    expected = 2 - math.log(math.exp(2) + 3)
    assert all(one.logprob == pytest.approx(expected) and len(one.top) == 1 for one in spoken.logprobs)
