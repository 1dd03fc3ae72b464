"""What strangers are told of failures: their own in full, this node's by its kind."""

from __future__ import annotations

import pytest

from meshnode.errors import Overloaded
from meshnode.events import Failed
from meshnode.mesh.outward import outward, refusal, too_long


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        (Failed("context_length_exceeded", "9,000 tokens", "Shorten it.", "messages"),) * 2,
        (Failed("cancelled", "the caller left."),) * 2,
        (
            Failed("model_failed", "/home/me/models/x.gguf cannot be loaded", "Mend /home/me"),
            Failed("model_failed", "the provider could not serve this."),
        ),
        (
            Failed("overloaded", "5 requests wait", retry_after_s=2.0),
            Failed("overloaded", "the provider could not serve this.", retry_after_s=2.0),
        ),
        (Failed("disk_full", "/home is full"), Failed("server_error", "the provider could not serve this.")),
        (Failed("nonsense", "secret"), Failed("server_error", "the provider could not serve this.")),
    ],
)
def test_a_stranger_hears_nothing_of_this_nodes_inside(failed: Failed, told: Failed) -> None:
    assert outward(failed) == told


def test_a_refusal_says_what_and_when_to_come_back() -> None:
    told = refusal(7, Overloaded("all places are taken.", retry_after_s=2.5))
    assert (told.number, told.code, told.reason, told.retry_after_ms) == (
        7,
        "overloaded",
        "all places are taken.",
        2500,
    )
    assert len(refusal(7, Overloaded("x" * 1000)).reason) == 500


def test_an_answer_without_an_end_is_told_which_is_the_longest() -> None:
    assert "3600 s" in too_long().message
