"""Many requests of several callers over one cache, in virtual time: what is shared changes nothing but the work.

Also row 12 of the threats: nothing a caller can time depends on what another caller has asked.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from meshnode.domain import GenerationRequest, ServiceClass, Stopping
from meshnode.engine.fake import FakeBackend
from meshnode.events import Failed, Finished, Prefilling, Started
from tests.kit.driven import Driven, asking

CALLERS = {
    "owner": ServiceClass.OWNER,
    "friend": ServiceClass.FRIEND,
    "one": ServiceClass.LINE,
    "two": ServiceClass.LINE,
}
HEADS = tuple(f"system prompt number {n}, which is long enough to be worth sharing. " * 2 for n in range(3))
REQUESTS = 200


def request(draw: random.Random) -> GenerationRequest:
    """One of a caller whose prompts often begin alike."""
    caller = draw.choice(list(CALLERS))
    prompt = draw.choice(HEADS)[: draw.choice((0, 60, 130))] + f"question {draw.randrange(40)} " * draw.randrange(1, 9)
    return asking(
        prompt,
        stopping=Stopping(max_tokens=draw.randrange(1, 40), ignore_eos=True),
        service_class=CALLERS[caller],
        choices=draw.choice((1, 1, 1, 3)),
        caller=caller,
        cache_prompt=draw.random() < 0.9,
    )


@cache
def solo(prompt: str, most: int) -> str:
    """The answer of an engine that has nothing else to do and remembers nothing."""
    return Driven(FakeBackend()).ask(asking(prompt, stopping=Stopping(max_tokens=most, ignore_eos=True)))


def check(driven: Driven, backend: FakeBackend) -> None:
    gauge = driven.loop.gauge()
    assert gauge.kv_used + gauge.kv_idle == backend.cells_used <= gauge.kv_total
    assert gauge.running <= 6


@pytest.mark.parametrize("host_bytes", [0, 4000])
@pytest.mark.parametrize("cuttable", [True, False])
def test_every_answer_is_its_solo_answer(cuttable: bool, host_bytes: int) -> None:
    draw = random.Random(f"{cuttable} {host_bytes}")
    backend = FakeBackend(n_ctx=900, n_seq_max=6, ids=10, cuttable=cuttable)
    driven = Driven(backend, step_tokens=80, host_bytes=host_bytes)
    asked: dict[int, GenerationRequest] = {}
    cancelled = set()
    while len(asked) < REQUESTS:
        if draw.random() < 0.25:
            it = request(draw)
            gated = draw.random() < 0.2
            number = driven.submit(it, *((5, 40) if gated else ()))
            asked[number] = it
        if asked and draw.random() < 0.02:
            cancelled.add(number := draw.choice(list(asked)))
            driven.cancel(number)
        for number in (draw.choice(list(asked)) for _ in range(2) if asked):
            driven.grant(number, 10, 60)
        driven.step()
        check(driven, backend)
    for _ in range(60):
        for number in asked:
            driven.grant(number, 50, 300)
        driven.now += 5
        driven.run()
    check(driven, backend)
    assert driven.loop.gauge().running == driven.loop.gauge().waiting == 0
    seen = {number: driven.events(number) for number in asked if number not in cancelled}
    assert all(isinstance(events[-1], Finished) for events in seen.values())
    for number, it in asked.items():
        if number in seen:
            assert isinstance(it.prompt, str)
            expected = solo(it.prompt, it.stopping.max_tokens or 0)
            assert [driven.text(number, choice) for choice in range(it.choices)] == [expected] * it.choices
    started = [event for events in seen.values() for event in events if isinstance(event, Started)]
    assert (sum(event.cached_tokens for event in started) > 0) == (cuttable or host_bytes > 0)
    assert not any(isinstance(event, Failed) for events in seen.values() for event in events)


def probe(victims: str, guess: str, *, cuttable: bool) -> tuple[list[int], int]:
    """A victim asks; then another caller asks ``guess``: rows of each batch it is served with, and what it is told."""
    backend = FakeBackend(n_ctx=900, n_seq_max=4, cuttable=cuttable)
    driven = Driven(backend, step_tokens=32, host_bytes=10_000)
    driven.submit(asking(victims, caller="victim", service_class=ServiceClass.LINE))
    driven.run()
    before = len(backend.batches)
    number = driven.submit(asking(guess, caller="attacker", service_class=ServiceClass.LINE))
    driven.run()
    told = next(event.cached_tokens for event in driven.events(number) if isinstance(event, Started))
    return [len(batch) for batch in backend.batches[before:]], told


@pytest.mark.parametrize("cuttable", [True, False])
def test_a_right_guess_looks_like_a_wrong_one(cuttable: bool) -> None:
    """The work done for a guess is the same whether it is right or wrong: no threshold tells them apart (AUC 0.5)."""
    secret = "my password is hunter2, do not tell anybody about it. " * 4
    wrong = "my password is hunter3, do not tell anybody about it. " * 4
    for guess in (secret, wrong):
        assert probe(secret, guess, cuttable=cuttable) == probe(wrong, guess, cuttable=cuttable)


def test_the_probe_would_see_a_shared_cache() -> None:
    """The same caller's second request is served with less: what the test above measures is measurable."""
    backend = FakeBackend(n_ctx=900, n_seq_max=4)
    driven = Driven(backend, step_tokens=32)
    rows = []
    for _ in range(2):
        before = len(backend.batches)
        driven.submit(asking("the same question again, and long enough to be seen " * 3))
        driven.run()
        rows.append(sum(map(len, backend.batches[before:])))
    assert rows[1] < rows[0] // 2


class Forgetful(FakeBackend):
    """Cannot bring any state back."""

    def restore(self, seq: int, state: NDArray[np.uint8]) -> bool:
        """There is never room."""
        return False


def test_a_state_that_cannot_be_brought_back_is_computed() -> None:
    prompt = "a long enough question, asked twice. " * 3
    backend = Forgetful(cuttable=False)
    driven = Driven(backend, host_bytes=10_000)
    numbers = []
    for _ in range(2):
        numbers.append(driven.submit(asking(prompt)))
        driven.run()
    assert driven.text(numbers[1]) == driven.text(numbers[0]) != ""
    assert driven.finished(numbers[1]).usage.cached_tokens == 0


def test_a_prompt_found_in_the_cache_is_told_before_more_of_it_is_paid() -> None:
    driven = Driven(FakeBackend())
    driven.submit(asking("x" * 99, caller="peer"))
    driven.run()
    number = driven.submit(asking("x" * 99 + "y" * 50, caller="peer"), credit=5, prefill=40)
    driven.run()
    assert driven.events(number) == [Started(prompt_tokens=150, cached_tokens=100, seed=1001), Prefilling(100, 150)]
    driven.grant(number, prefill=100)
    driven.run()
    assert driven.events(number)[-1] == Prefilling(140, 150), "what was found counts like what is computed"
    driven.grant(number, 100, prefill=10)
    driven.run()
    driven.finished(number)
