"""What the loop does with states and prefixes that earlier requests left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from meshnode.engine.fake import FakeBackend
from meshnode.events import Prefilling, Started
from tests.kit.driven import Driven, asking


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
