"""Speeds of answers: medians of the newest, and bounds on what is kept."""

from __future__ import annotations

from meshnode.domain import ModelId
from meshnode.mesh.failover import Speed
from meshnode.mesh.samples import MOST_MODELS, MOST_OF_EACH, UNMEASURED, Pace, Samples

M = ModelId("m")


def test_the_figures_are_medians_of_what_was_measured() -> None:
    samples = Samples()
    for first, rate in ((0.1, 10.0), (0.3, None), (0.2, 40.0), (0.9, 20.0)):
        samples.note(M, Speed(first, rate))
    assert samples.pace(M) == Pace(answers=4, decode_tps=20.0, first_token_s=0.25)


def test_an_answer_without_a_token_and_a_model_without_an_answer_say_nothing() -> None:
    samples = Samples()
    samples.note(M, Speed(None, None))
    assert samples.pace(M) == samples.pace(ModelId("n")) == UNMEASURED


def test_only_the_newest_count() -> None:
    samples = Samples()
    for rate in (1.0, *[50.0] * MOST_OF_EACH):
        samples.note(M, Speed(0.1, rate))
    assert samples.pace(M) == Pace(answers=MOST_OF_EACH, decode_tps=50.0, first_token_s=0.1)


def test_the_model_not_used_for_longest_is_forgotten() -> None:
    samples = Samples()
    names = [ModelId(f"m{number}") for number in range(MOST_MODELS)]
    for name in (*names, names[0], ModelId("new")):
        samples.note(name, Speed(0.1, 5.0))
    assert samples.pace(names[1]) == UNMEASURED
    assert samples.pace(names[0]).answers == 2
