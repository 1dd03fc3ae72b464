"""What one request sees of the engine, and what its neighbours do not: on the deterministic backend."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from meshnode.domain import FinishReason, Sampling, ServiceClass, Stopping
from meshnode.engine.backend import Row
from meshnode.engine.fake import EOS, FakeBackend
from meshnode.errors import ModelFailed
from meshnode.events import ChoiceFinished, Finished, Prefilling, Queued, Started, TextDelta
from tests.kit.driven import Driven, asking, chatting


def saying(answer: bytes) -> FakeBackend:
    """A backend that answers everything with these bytes."""
    return FakeBackend(script=lambda _: answer)


# --- an answer --------------------------------------------------------------------------------


def test_events_of_a_short_answer_in_order() -> None:
    driven = Driven(saying(b"hi"))
    number = driven.submit(asking("abc"))
    driven.run()
    assert driven.events(number)[:-1] == [
        Started(prompt_tokens=4, cached_tokens=0, seed=1000),
        TextDelta(text="h", token_ids=(ord("h"),)),
        TextDelta(text="i", token_ids=(ord("i"),)),
        ChoiceFinished(reason=FinishReason.STOP),
    ]
    usage = driven.finished(number).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (4, 3, 0)


def test_messages_go_through_the_template() -> None:
    seen: list[bytes] = []

    def script(tokens: Sequence[int]) -> bytes:
        seen.append(bytes(token for token in tokens if token < 256))
        return b"ok"

    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    driven = Driven(FakeBackend(script=script, template=template))
    assert driven.ask(chatting("hello")) == "ok"
    assert seen == [b"[user] hello"]


def test_template_that_writes_bos_itself_does_not_double_it() -> None:
    driven = Driven(FakeBackend(template="{{ bos_token }}hi"))
    number = driven.submit(chatting("hello"))
    driven.run()
    assert isinstance(driven.events(number)[0], Started)
    assert driven.events(number)[0] == Started(prompt_tokens=3, seed=1000)


def test_half_characters_are_never_sent() -> None:
    driven = Driven(saying("aé€😀".encode()))
    number = driven.submit(asking("x"))
    driven.run()
    assert [e.text for e in driven.events(number) if isinstance(e, TextDelta)] == ["a", "é", "€", "😀"]
    assert driven.tokens(number) == list("aé€😀".encode())


@pytest.mark.parametrize("stop", ["STOP", "é!"])
def test_stop_string_across_token_borders(stop: str) -> None:
    driven = Driven(saying(f"before {stop} after".encode()))
    number = driven.submit(asking("x", stopping=Stopping(max_tokens=64, stop=("never", stop))))
    driven.run()
    assert driven.text(number) == "before "
    assert driven.events(number)[-2] == ChoiceFinished(reason=FinishReason.STOP, stop=stop)
    assert driven.loop.gauge().running == 0


def test_what_only_looked_like_a_stop_string_comes_out_in_the_end() -> None:
    driven = Driven(saying(b"so STO"))
    assert driven.ask(asking("x", stopping=Stopping(stop=("STOP",)))) == "so STO"


def test_max_tokens_is_length() -> None:
    driven = Driven(saying(b"a long answer"))
    number = driven.submit(asking("x", stopping=Stopping(max_tokens=4)))
    driven.run()
    assert (driven.text(number), driven.reason(number)) == ("a lo", FinishReason.LENGTH)
    assert driven.finished(number).usage.completion_tokens == 4


def test_no_tokens_wanted_none_computed() -> None:
    backend = saying(b"text")
    driven = Driven(backend)
    number = driven.submit(asking("x", stopping=Stopping(max_tokens=0)))
    driven.run()
    assert driven.kinds(number) == ["Started", "ChoiceFinished", "Finished"]
    assert (driven.reason(number), backend.batches) == (FinishReason.LENGTH, [])


def test_min_tokens_and_ignore_eos_keep_an_answer_going() -> None:
    free = Driven(FakeBackend()).ask(asking("q", stopping=Stopping(max_tokens=400)))
    for stopping in (Stopping(max_tokens=400, min_tokens=300), Stopping(max_tokens=400, ignore_eos=True)):
        driven = Driven(FakeBackend())
        number = driven.submit(asking("q", stopping=stopping))
        driven.run()
        assert driven.text(number).startswith(free)
        assert len(driven.tokens(number)) >= 300 > len(free)
        assert EOS not in driven.tokens(number)[:300]


def test_stop_token_is_named_and_not_part_of_the_text() -> None:
    driven = Driven(saying(b"ab!cd"))
    number = driven.submit(asking("x", stopping=Stopping(stop_token_ids=(ord("!"),))))
    driven.run()
    assert driven.text(number) == "ab"
    assert driven.events(number)[-2] == ChoiceFinished(reason=FinishReason.STOP, stop="!")


def test_full_context_ends_the_answer_with_length() -> None:
    driven = Driven(FakeBackend(n_ctx=64))
    number = driven.submit(asking("x" * 40, stopping=Stopping(ignore_eos=True)))
    driven.run()
    usage = driven.finished(number).usage
    assert driven.reason(number) is FinishReason.LENGTH
    assert usage.prompt_tokens + usage.completion_tokens == 64


def test_reader_hears_of_tokens_without_text() -> None:
    driven = Driven(FakeBackend())
    bias = tuple((token, -100.0) for token in range(256))
    request = asking("x", sampling=Sampling(temperature=0, logit_bias=(*bias, (256, 100.0))))
    number = driven.submit(request)
    driven.run()
    assert driven.text(number) == ""
    assert len(driven.tokens(number)) == 32, "credit comes back for tokens that were heard of"


def test_seed_repeats_whatever_the_batch() -> None:
    hot = Sampling(temperature=1.5, seed=7)
    alone = Driven(FakeBackend()).ask(asking("q", sampling=hot))
    crowd = Driven(FakeBackend(), step_tokens=20)
    others = [crowd.submit(asking(f"other {n}", sampling=Sampling(temperature=1.5))) for n in range(9)]
    number = crowd.submit(asking("q", sampling=hot))
    crowd.run()
    assert crowd.text(number) == alone
    assert len({crowd.text(other) for other in others}) == 9


def test_other_seed_other_answer_and_the_seed_is_told() -> None:
    driven = Driven(FakeBackend())
    numbers = [driven.submit(asking("q", sampling=Sampling(temperature=1.5))) for _ in range(2)]
    driven.run()
    assert driven.text(numbers[0]) != driven.text(numbers[1])
    first, second = (driven.events(number)[0] for number in numbers)
    assert isinstance(first, Started)
    assert isinstance(second, Started)
    again = Driven(FakeBackend()).ask(asking("q", sampling=Sampling(temperature=1.5, seed=second.seed)))
    assert again == driven.text(numbers[1])


# --- many at once -----------------------------------------------------------------------------


def test_answers_do_not_depend_on_the_company() -> None:
    prompts = [f"prompt {n} " * (n % 7 + 1) for n in range(24)]
    solo = [Driven(FakeBackend()).ask(asking(prompt)) for prompt in prompts]
    together = Driven(FakeBackend(n_seq_max=8), step_tokens=24)
    numbers = [together.submit(asking(prompt)) for prompt in prompts]
    together.run()
    assert [together.text(number) for number in numbers] == solo


def test_answers_survive_preemption() -> None:
    prompts = [f"prompt {n} " * 3 for n in range(12)]
    stopping = Stopping(max_tokens=60, ignore_eos=True)
    solo = [Driven(FakeBackend()).ask(asking(prompt, stopping=stopping)) for prompt in prompts]
    backend = FakeBackend(n_ctx=160, n_seq_max=6)
    together = Driven(backend, step_tokens=24)
    numbers = [together.submit(asking(prompt, stopping=stopping)) for prompt in prompts]
    together.run()
    computed = sum(len(batch) for batch in backend.batches)
    asked = sum(together.finished(number).usage.prompt_tokens + 60 for number in numbers)
    assert computed > asked, "nothing was pre-empted: the test shows nothing"
    assert [together.text(number) for number in numbers] == solo
    assert backend.cells_used == together.loop.gauge().kv_idle


def test_long_prompt_reports_progress_and_the_others_go_on_talking() -> None:
    driven = Driven(FakeBackend(), step_tokens=64)
    talking = driven.submit(asking("x", stopping=Stopping(max_tokens=200, ignore_eos=True)))
    driven.step()
    number = driven.submit(asking("y" * 999))
    before = len(driven.steps)
    while not driven.text(number):
        driven.step()
    progress = [event for event in driven.events(number) if isinstance(event, Prefilling)]
    assert [p.total for p in progress] == [1000] * len(progress)
    assert [p.done for p in progress] == sorted({p.done for p in progress})
    assert progress[-1].done == 1000
    assert all(any(owner == talking for owner, _ in step.events) for step in driven.steps[before:])


def test_queue_says_where_one_stands_and_serves_the_owner_first() -> None:
    driven = Driven(FakeBackend(n_seq_max=1))
    first = driven.submit(asking("a"))
    driven.step()
    stranger = driven.submit(asking("b", service_class=ServiceClass.NEWCOMER))
    friend = driven.submit(asking("c", service_class=ServiceClass.FRIEND))
    owner = driven.submit(asking("d"))
    driven.run()
    assert [e.position for e in driven.events(stranger) if isinstance(e, Queued)] == [3, 2, 1]
    assert [e.position for e in driven.events(friend) if isinstance(e, Queued)] == [2, 1]
    ends = [n for step in driven.steps for n, event in step.events if isinstance(event, Finished)]
    assert ends == [first, owner, friend, stranger]


def test_full_queue_refuses_with_a_time_to_come_back() -> None:
    driven = Driven(FakeBackend(n_seq_max=1), queue_limit=1)
    driven.submit(asking("a"))
    driven.step()
    driven.submit(asking("b"))
    number = driven.submit(asking("c"))
    driven.step()
    failed = driven.failed(number)
    assert (failed.code, failed.retry_after_s) == ("overloaded", 5.0)


# --- credit and cancelling --------------------------------------------------------------------


def test_prompt_and_answer_are_computed_as_far_as_each_is_paid() -> None:
    driven = Driven(FakeBackend())
    number = driven.submit(asking("x" * 9, stopping=Stopping(max_tokens=50, ignore_eos=True)), credit=2, prefill=6)
    driven.run()
    assert driven.events(number)[-1] == Prefilling(6, 10)
    driven.grant(number, prefill=3)
    driven.run()
    assert driven.kinds(number) == ["Started", "Prefilling"]
    driven.grant(number, prefill=1)
    driven.run()
    assert len(driven.tokens(number)) == 3
    driven.grant(number, prefill=100)
    driven.grant(number, 4)
    driven.run()
    assert len(driven.tokens(number)) == 7
    driven.grant(number, 1000)
    driven.run()
    driven.finished(number)


def test_one_that_waits_for_credit_does_not_hold_up_the_others() -> None:
    driven = Driven(FakeBackend(n_seq_max=2))
    still = driven.submit(asking("a"), credit=1)
    quick = [driven.submit(asking(f"{n}")) for n in range(5)]
    driven.run()
    assert all(driven.finished(number) for number in quick)
    assert driven.text(still).count("") <= 3


def test_reader_that_stands_still_frees_its_slot_and_comes_back() -> None:
    alone = Driven(FakeBackend()).ask(asking("a"))
    driven = Driven(FakeBackend(n_seq_max=1))
    still = driven.submit(asking("a"), credit=3)
    driven.run()
    other = driven.submit(asking("b"))
    driven.run()
    assert driven.kinds(other) == ["Queued"]
    driven.now += 10
    driven.step()
    driven.run()
    driven.finished(other)
    driven.grant(still, 100)
    driven.run()
    assert driven.text(still) == alone
    assert driven.kinds(still).count("Started") == 1


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_cancel_frees_slot_and_cells_at_once(after: int) -> None:
    backend = FakeBackend(n_seq_max=1)
    driven = Driven(backend, step_tokens=16)
    number = driven.submit(asking("x" * 40, stopping=Stopping(ignore_eos=True)))
    waiting = driven.submit(asking("next"))
    for _ in range(after):
        driven.step()
    driven.cancel(number)
    seen = len(driven.events(number))
    assert backend.cells_used == driven.loop.gauge().kv_idle
    driven.step()
    assert driven.loop.gauge().running == 1
    driven.run()
    driven.finished(waiting)
    assert len(driven.events(number)) == seen, "no event follows a cancel"
    assert backend.cells_used == driven.loop.gauge().kv_idle


def test_messages_for_requests_that_are_gone_are_ignored() -> None:
    driven = Driven(FakeBackend())
    driven.cancel(99)
    driven.grant(99, 5)
    assert driven.loop.idle
    assert driven.step() is None


# --- what goes wrong --------------------------------------------------------------------------


class Trouble:
    """Makes every batch fail that has a token of request ``poison``."""

    def __init__(self, poison: str, error: Exception) -> None:
        self._poison = ord(poison)
        self._error = error

    def __call__(self, rows: Sequence[Row]) -> None:
        if any(row.token == self._poison for row in rows):
            raise self._error


@pytest.mark.parametrize(
    ("error", "code"), [(ModelFailed("the batch failed."), "model_failed"), (ZeroDivisionError(), "internal_error")]
)
def test_a_request_that_breaks_the_batch_breaks_only_itself(error: Exception, code: str) -> None:
    prompts = ["one", "two", "th~ree", "four"]
    solo = {p: Driven(FakeBackend()).ask(asking(p)) for p in prompts}
    said: list[str] = []
    backend = FakeBackend(before_decode=Trouble("~", error))
    driven = Driven(backend, complain=said.append)
    numbers = {prompt: driven.submit(asking(prompt)) for prompt in prompts}
    driven.run()
    assert driven.failed(numbers.pop("th~ree")).code == code
    assert {p: driven.text(number) for p, number in numbers.items()} == {p: solo[p] for p in numbers}
    assert bool(said) == (code == "internal_error")
    assert backend.cells_used == driven.loop.gauge().kv_idle


def test_a_defect_while_drawing_closes_that_request_only() -> None:
    driven = Driven(FakeBackend())
    every = tuple((token, float("-inf")) for token in range(259))
    number = driven.submit(asking("a", sampling=Sampling(temperature=0, logit_bias=every)))
    neighbour = driven.submit(asking("b"))
    driven.run()
    driven.failed(number)
    assert driven.text(neighbour) == Driven(FakeBackend()).ask(asking("b"))


def test_complaints_hold_no_content() -> None:
    said: list[str] = []
    backend = FakeBackend(before_decode=Trouble("~", ValueError("secret prompt")))
    driven = Driven(backend, complain=said.append)
    number = driven.submit(asking("~ secret"))
    driven.run()
    assert said
    assert "secret" not in said[0] + driven.failed(number).message


@pytest.mark.parametrize("cuttable", [True, False])
def test_aborted_batch_is_computed_again(cuttable: bool) -> None:
    prompts = ["x" * 150, "y" * 90]
    solo = [Driven(FakeBackend()).ask(asking(prompt)) for prompt in prompts]
    backend = FakeBackend(cuttable=cuttable)
    driven = Driven(backend, step_tokens=200)
    calls = itertools.count()
    backend.set_abort(lambda: next(calls) % 5 == 3)
    numbers = [driven.submit(asking(prompt)) for prompt in prompts]
    driven.run()
    assert [driven.text(number) for number in numbers] == solo


def test_fewer_cells_than_were_counted_preempts_instead_of_failing() -> None:
    backend = FakeBackend(n_ctx=100, n_seq_max=4)
    driven = Driven(backend)
    backend.decode([Row(3, 1, position, False) for position in range(50)])  # cells nobody counts
    prompts = ["abc " * 4, "def " * 4, "ghi " * 4]
    stopping = Stopping(max_tokens=10)
    numbers = [driven.submit(asking(prompt, stopping=stopping)) for prompt in prompts]
    driven.run()
    solo = [Driven(FakeBackend()).ask(asking(prompt, stopping=stopping)) for prompt in prompts]
    assert [driven.text(number) for number in numbers] == solo


def test_step_says_what_it_did() -> None:
    driven = Driven(saying(b"abc"))
    driven.submit(asking("x" * 7))
    first = driven.step()
    second = driven.step()
    assert first is not None
    assert second is not None
    assert (first.prefilled, first.decoded) == (8, 0)
    assert (second.prefilled, second.decoded) == (0, 1)
    assert (second.gauge.running, second.gauge.kv_used, second.gauge.kv_total) == (1, 9, 4096)
    assert first.step_ms > 0
