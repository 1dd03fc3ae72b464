"""When an answer ends, and what of it is paid for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import FinishReason, Stopping
from meshnode.engine.pipe import UNLIMITED
from meshnode.engine.sequence import Ending, TokenSequence

EOS = 9

ANYTHING = Stopping()


def sequence(
    prompt: int = 3,
    *,
    limit: int = 100,
    stopping: Stopping = ANYTHING,
    credit: int = UNLIMITED,
) -> TokenSequence:
    """A sequence with a prompt of so many tokens."""
    return TokenSequence(1, [0] * prompt, limit=limit, stopping=stopping, credit=credit)


def say(it: TokenSequence, token: int) -> Ending | None:
    """Compute what is pending, then draw ``token``."""
    it.advance(it.pending)
    return it.accept(token, ends_generation=token == EOS)


def test_end_token_ends_with_stop() -> None:
    it = sequence()
    assert say(it, 5) is None
    assert say(it, EOS) == Ending(FinishReason.STOP, EOS)
    assert it.output_length == 2


def test_end_token_is_ordinary_when_ignored() -> None:
    it = sequence(stopping=Stopping(ignore_eos=True))
    assert it.bans_ending()
    assert say(it, EOS) is None


def test_callers_stop_token_ends_even_when_eos_is_ignored() -> None:
    it = sequence(stopping=Stopping(ignore_eos=True, stop_token_ids=(7,)))
    assert say(it, 7) == Ending(FinishReason.STOP, 7)


def test_max_tokens_ends_with_length_and_the_last_token_counts() -> None:
    it = sequence(stopping=Stopping(max_tokens=2))
    assert say(it, 5) is None
    assert say(it, 5) == Ending(FinishReason.LENGTH)


def test_end_token_as_the_last_allowed_one_is_a_stop() -> None:
    assert say(sequence(stopping=Stopping(max_tokens=1)), EOS) == Ending(FinishReason.STOP, EOS)


def test_no_token_at_all_may_be_asked_for() -> None:
    assert sequence(stopping=Stopping(max_tokens=0)).starved() == Ending(FinishReason.LENGTH)
    assert sequence(stopping=Stopping(max_tokens=1)).starved() is None


def test_full_context_ends_with_length() -> None:
    it = sequence(prompt=3, limit=5)
    assert say(it, 5) is None
    assert say(it, 5) == Ending(FinishReason.LENGTH)


def test_min_tokens_bans_the_ends_until_then() -> None:
    it = sequence(stopping=Stopping(min_tokens=2, stop_token_ids=(7,)))
    seen = []
    for _ in range(3):
        seen.append((it.bans_ending(), it.bans_stop_ids()))
        say(it, 5)
    assert seen == [(True, True), (True, True), (False, False)]


def test_prefill_then_decode() -> None:
    it = sequence(prompt=3)
    assert (it.pending, it.decoding) == (3, False)
    it.advance(2)
    assert (it.pending, it.decoding) == (1, False)
    say(it, 5)
    assert (it.pending, it.decoding) == (1, True)


def test_prompt_and_answer_draw_on_one_credit() -> None:
    it = sequence(prompt=3, credit=4)
    assert it.allowance == 3
    say(it, 5)
    assert it.allowance == 1
    say(it, 5)
    assert it.allowance == 0
    it.grant(2)
    assert it.allowance == 1


def test_recomputing_is_not_charged_again() -> None:
    it = sequence(prompt=3, credit=4)
    say(it, 5)
    it.rewind()
    assert it.allowance == 4, "three positions that were paid for, and one of credit"
    it.advance(4)
    assert (it.credit, it.allowance) == (0, 0)


def test_ungated_needs_no_credit_and_takes_none() -> None:
    it = sequence(prompt=3)
    it.grant(5)
    it.advance(3)
    assert it.credit == UNLIMITED


@given(
    credit=st.integers(0, 20),
    actions=st.lists(st.one_of(st.integers(-9, 5), st.just("rewind"), st.just("draw")), max_size=40),
)
def test_never_computes_more_than_was_granted(credit: int, actions: list[int | str]) -> None:
    it = sequence(prompt=5, limit=10**6, credit=credit)
    granted, reached = credit, 0
    for action in actions:
        if action == "rewind":
            it.rewind(it.computed // 2)
        elif action == "draw":
            if it.pending == 0:
                it.accept(1, ends_generation=False)
        elif isinstance(action, int) and action < 0:
            it.grant(-action)
            granted -= action
        elif isinstance(action, int):
            it.advance(min(action, it.allowance))
        reached = max(reached, it.computed)
        assert it.credit >= 0
        assert reached <= granted
