"""Several models for one request: which error leads to the next, and what is told at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from meshnode.domain import ModelId
from meshnode.errors import (
    CapabilityUnavailable,
    ContextLengthExceeded,
    DeadlineExceeded,
    DiskFull,
    Draining,
    InvalidField,
    MeshnodeError,
    ModelNotFound,
    NobodyServes,
    PeerError,
    StreamReset,
    TemplateRefused,
    WorkerDied,
)
from meshnode.mesh.answer import Route
from meshnode.mesh.failover import Speed
from meshnode.mesh.ladder import ENOUGH, Ladder, Rung
from meshnode.mesh.route import Candidate
from tests.kit.requests import card


class Scripted:
    """A course with so many candidates; ``error`` is told once they are used up, or of any that spoke."""

    def __init__(self, name: str, candidates: int, error: MeshnodeError) -> None:
        self._name = ModelId(name)
        self._left = candidates
        self._error = error
        self._attempts = 0
        self.heard: list[object] = []

    @property
    def route(self) -> Route:
        """The road so far."""
        return Route(kind="peer", model=self._name, node="bob", attempts=self._attempts, reason="the one peer")

    def next(self) -> Candidate:
        """One more."""
        if not self._left:
            raise self._error
        self._left -= 1
        self._attempts += 1
        return Candidate(kind="peer", node="bob", model=self._name, reason="")

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """The next candidate, if there is one."""
        return None if self._left and not spoke else self._error

    def late(self) -> None:
        """Note it."""
        self.heard.append("late")

    def done(self, speed: Speed) -> None:
        """Note it."""
        self.heard.append(speed)


def rung(name: str, candidates: int = 1, error: MeshnodeError | None = None) -> Rung:
    """A model."""
    course = Scripted(name, candidates, error or NobodyServes(f"nobody serves {name}."))
    return Rung(name, ModelId(name), course, card(name))


def unknown(name: str) -> Rung:
    """No model."""
    return Rung(name, ModelId(name), error=ModelNotFound(f"no model {name}.", hint="Did you mean n?", param="model"))


def climbing(rungs: Sequence[Rung]) -> Ladder:
    """A ladder of them."""
    return Ladder(iter(rungs))


def climb(ladder: Ladder) -> tuple[list[str], MeshnodeError]:
    """Fail with every candidate; gives their models and what is told at the end."""
    tried = []
    while True:
        try:
            tried.append(str(ladder.next().model))
        except MeshnodeError as error:
            return tried, error
        told = ladder.lost(StreamReset("x"), spoke=False)
        if told is not None:
            return tried, told


MOVES_ON = [
    NobodyServes("x"), CapabilityUnavailable("x"), ContextLengthExceeded("x"), TemplateRefused("x"), WorkerDied("x"),
    PeerError("x"),
]  # fmt: skip
ENDS = [InvalidField("x"), DeadlineExceeded("x"), Draining("x"), DiskFull("x")]


@pytest.mark.parametrize("error", MOVES_ON, ids=lambda error: error.code)
def test_an_error_of_one_model_leads_to_the_next(error: MeshnodeError) -> None:
    ladder = climbing([rung("a", 2, error), rung("b", 1)])
    assert climb(ladder)[0] == ["a", "a", "b"]
    assert climbing([rung("a", 0, error), rung("b")]).next().model == "b"


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.code)
def test_an_error_that_any_model_would_give_ends_the_climb(error: MeshnodeError) -> None:
    assert climb(climbing([rung("a", 1, error), rung("b")])) == (["a"], error)
    assert climb(climbing([rung("a", 0, error), rung("b")])) == ([], error)


def test_after_a_word_was_spoken_there_is_no_other_model() -> None:
    error = PeerError("x")
    ladder = climbing([rung("a", 3, error), rung("b")])
    ladder.next()
    assert ladder.lost(StreamReset("x"), spoke=True) is error
    assert ladder.route.model == "a"


def test_the_last_error_is_told_with_every_name() -> None:
    last = ContextLengthExceeded("too long.", hint="Ask for less.", param="messages", retry_after_s=2.0)
    tried, error = climb(climbing([unknown("a"), rung("b"), unknown("c"), rung("d", 1, last)]))
    assert tried == ["b", "d"]
    assert type(error) is ContextLengthExceeded
    assert error.message == (
        "too long. Tried in vain: a (model_not_found), b (no_provider), c (model_not_found),"
        " d (context_length_exceeded)."
    )
    assert (error.hint, error.param, error.retry_after_s) == ("Ask for less.", "messages", 2.0)


def test_one_model_tells_its_error_as_it_is() -> None:
    error = NobodyServes("x")
    assert climb(climbing([rung("a", 2, error)])) == (["a", "a"], error)
    with pytest.raises(ModelNotFound) as caught:
        climbing([unknown("a")])
    assert (caught.value.message, caught.value.hint) == ("no model a.", "Did you mean n?")
    with pytest.raises(ModelNotFound, match="there is no model to ask"):
        climbing([])


def test_the_route_says_which_model_answered_and_why() -> None:
    ladder = climbing([unknown("a"), rung("b", 2), rung("c")._replace(note="cheapest")])
    ladder.next()
    assert (ladder.route.model, ladder.route.attempts) == ("b", 1)
    assert ladder.route.reason == "instead of a (model_not_found): the one peer"
    for _ in range(2):
        assert ladder.lost(StreamReset("x"), spoke=False) is None
        ladder.next()
    assert (ladder.route.model, ladder.route.attempts) == ("c", 3)
    assert ladder.route.reason == "instead of a (model_not_found), b (no_provider): cheapest: the one peer"
    assert ladder.card is not None
    assert ladder.card.id == "c"


def test_many_names_are_cut_short_in_the_route() -> None:
    ladder = climbing([*map(unknown, "abcde"), rung("f")])
    assert ladder.route.reason.startswith(
        "instead of a (model_not_found), b (model_not_found), c (model_not_found) and 2"
    )


def test_whoever_is_asked_hears_how_it_went() -> None:
    rungs = [rung("a"), rung("b")]
    ladder = climbing(rungs)
    ladder.next()
    ladder.lost(StreamReset("x"), spoke=False)
    ladder.next()
    ladder.late()
    ladder.done(Speed(0.1, 2.0))
    assert [one.course.heard for one in rungs if isinstance(one.course, Scripted)] == [[], ["late", Speed(0.1, 2.0)]]


def test_a_model_is_made_only_when_its_turn_comes() -> None:
    made: list[str] = []

    def making() -> Iterator[Rung]:
        for name in "abc":
            made.append(name)
            yield rung(name)

    ladder = Ladder(making())
    ladder.next()
    assert made == ["a"]
    ladder.lost(StreamReset("x"), spoke=False)
    assert made == ["a", "b"]


def test_attempts_are_bounded_over_all_models() -> None:
    tried, error = climb(climbing([rung(f"m{number}", 5) for number in range(9)]))
    assert len(tried) == 10 < ENOUGH + 5
    assert error.code == "no_provider"
