"""When an answer ends, and what of it is paid for."""

from __future__ import annotations

import pytest
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
    prefill: int = UNLIMITED,
) -> TokenSequence:
    """A sequence with a prompt of so many tokens."""
    return TokenSequence(1, [0] * prompt, limit=limit, stopping=stopping, credit=credit, prefill=prefill)


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


def test_the_prompt_is_paid_from_one_bucket_and_the_answer_from_another() -> None:
    it = sequence(prompt=3, credit=2, prefill=2)
    assert it.allowance == 2, "the third token of the prompt is not paid, whatever the answer's credit"
    it.advance(2)
    assert (it.allowance, it.prefill, it.credit) == (0, 0, 2)
    it.grant(0, 5)
    assert it.allowance == 1
    say(it, 5)
    assert (it.allowance, it.prefill, it.credit) == (1, 4, 2), "what is left of the prompt's bucket pays no answer"


@pytest.mark.parametrize("credit", [0, 1, 4])
def test_a_credit_of_n_lets_one_token_more_out(credit: int) -> None:
    it = sequence(prompt=3, credit=credit, prefill=3)
    while it.allowance:
        say(it, 5)
    assert it.output_length == credit + 1
    allowed = []
    for grant in ((0, 100), (1, 0)):
        it.grant(*grant)
        allowed.append(it.allowance)
    assert allowed == [0, 1]


def test_an_ungated_prompt_needs_no_credit() -> None:
    it = sequence(prompt=3, credit=0)
    assert it.allowance == 3
    say(it, 5)
    assert it.allowance == 0


def test_an_ungated_answer_waits_for_its_prompt_alone() -> None:
    it = sequence(prompt=3, prefill=2)
    it.advance(it.allowance)
    assert it.allowance == 0
    it.grant(0, 1)
    for _ in range(9):
        say(it, 5)
    assert it.allowance == 1


def test_recomputing_is_not_charged_again() -> None:
    it = sequence(prompt=3, credit=1, prefill=3)
    say(it, 5)
    it.rewind()
    assert (it.allowance, it.fresh) == (4, 1), "three positions that were paid for, and one of credit"
    it.advance(4)
    assert (it.prefill, it.credit, it.allowance) == (0, 0, 0)


def test_a_prompt_paid_in_part_is_recomputed_that_far() -> None:
    it = sequence(prompt=5, credit=9, prefill=3)
    it.advance(3)
    it.rewind()
    assert (it.allowance, it.fresh) == (3, 0), "nothing new can come of it"
    it.advance(2)
    it.grant(0, 1)
    assert (it.allowance, it.fresh) == (2, 1)
    it.advance(2)
    assert (it.prefill, it.credit) == (0, 9)


def test_ungated_needs_no_credit_and_takes_none() -> None:
    it = sequence(prompt=3)
    it.grant(5, 5)
    it.advance(3)
    assert (it.credit, it.prefill) == (UNLIMITED, UNLIMITED)


buckets = st.just(UNLIMITED) | st.integers(0, 12)
grants = st.tuples(st.integers(0, 4), st.integers(0, 4))
actions = st.lists(st.one_of(st.integers(0, 5), grants, st.just("rewind"), st.just("draw")), max_size=60)


@given(prompt=st.integers(1, 9), credit=buckets, prefill=buckets, actions=actions)
def test_each_bucket_pays_for_its_own_positions_once(
    prompt: int, credit: int, prefill: int, actions: list[int | tuple[int, int] | str]
) -> None:
    it = sequence(prompt=prompt, limit=10**6, credit=credit, prefill=prefill)
    for_prompt, for_answer = (float("inf") if it == UNLIMITED else it for it in (prefill, credit))
    reached = 0
    for action in actions:
        if action == "rewind":
            it.rewind(it.computed // 2)
        elif action == "draw":
            if it.pending == 0:
                it.accept(1, ends_generation=False)
        elif isinstance(action, tuple):
            it.grant(*action)
            for_answer, for_prompt = for_answer + action[0], for_prompt + action[1]
        elif isinstance(action, int):
            it.advance(min(action, it.allowance))
        reached = max(reached, it.computed)
        covered = min(len(it.tokens), prompt + for_answer) if for_prompt >= prompt else for_prompt
        assert reached <= covered, "more than is paid for"
        assert it.computed + it.allowance == max(reached, covered), "less than is paid for"
        assert it.charged == reached


@given(prompt=st.integers(1, 9), credit=st.integers(0, 9), prefill=st.integers(0, 9), at=st.lists(st.integers(0, 20)))
def test_losing_the_cache_changes_nothing_but_the_work(prompt: int, credit: int, prefill: int, at: list[int]) -> None:
    undisturbed = sequence(prompt=prompt, credit=credit, prefill=prefill)
    disturbed = sequence(prompt=prompt, credit=credit, prefill=prefill)
    for it, losses in ((undisturbed, []), (disturbed, at)):
        for position in (*losses, None):
            while it.allowance and (position is None or it.computed < position):
                it.advance(1)
                if it.pending == 0:
                    it.accept(1, ends_generation=False)
            if position is not None:
                it.rewind()
    for what in ("tokens", "charged", "computed", "credit", "prefill"):
        assert getattr(disturbed, what) == getattr(undisturbed, what)


def test_what_the_cache_held_is_paid_like_the_rest() -> None:
    it = sequence(prompt=10, prefill=8, credit=0)
    it.reuse(6)
    assert (it.cached, it.computed, it.charged, it.prefill, it.allowance) == (6, 6, 6, 2, 2)


def test_what_the_cache_held_may_overdraw_the_bucket_and_is_owed() -> None:
    it = sequence(prompt=10, prefill=4, credit=0)
    it.reuse(9)
    assert (it.cached, it.computed, it.allowance) == (9, 9, 0), "no work is done on what was not granted"
    it.grant(0, 5)
    assert it.allowance == 0, "it is paid back first"
    it.grant(0, 1)
    assert it.allowance == 1


def test_an_ungated_sequence_owes_nothing_for_the_cache() -> None:
    it = sequence(prompt=10)
    it.reuse(9)
    assert (it.prefill, it.allowance) == (UNLIMITED, 1)


def test_coming_back_finds_its_own_and_is_not_charged_again() -> None:
    it = sequence(prompt=4, prefill=4, credit=9)
    it.reuse(0)
    for _ in range(3):
        say(it, 5)
    it.rewind()
    it.reuse(5)
    assert (it.cached, it.computed, it.charged, it.prefill, it.credit) == (0, 5, 6, 0, 7)


def test_all_answers_to_a_request_use_one_part_of_the_cache() -> None:
    it = sequence()
    it.shared = False
    assert it.fork(1).owner == it.owner != it.caller
