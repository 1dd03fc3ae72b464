"""One answer over several attempts: what the caller sees of them, and when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import FIRST_TOKEN_S, FinishReason, GenerationRequest, ModelId, PeerId, Sampling
from meshnode.errors import DeadlineExceeded, MeshnodeError, NobodyServes, StreamReset
from meshnode.events import (
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Loading,
    Prefilling,
    Queued,
    RefusalDelta,
    Started,
    TextDelta,
    Usage,
)
from meshnode.mesh.answer import Route
from meshnode.mesh.failover import Course, Failover, Speed
from meshnode.mesh.measure import Measure
from meshnode.mesh.route import Candidate
from meshnode.observe import Metrics
from tests.kit.askers import ACCEPT, HANG, ScriptedAsker, Step, answers, dies, model_offer, offer, refuses
from tests.kit.requests import prompt

Events = AbstractAsyncContextManager[AsyncIterator[Event]]


class Line:
    """A :class:`Course` that asks one peer after the other as long as there are any."""

    def __init__(self, *peers: str) -> None:
        self._left = list(peers)
        self._route = Route(kind="peer", model=ModelId("m"), node="", attempts=0)
        self.notes: list[str] = []
        self.speed: Speed | None = None

    @property
    def route(self) -> Route:
        """The road so far."""
        return self._route

    def next(self) -> Candidate:
        """The next in line."""
        if not self._left:
            raise NobodyServes("nobody is left.")
        node = self._left.pop(0)
        self._route = Route(kind="peer", model=ModelId("m"), node=node, attempts=self._route.attempts + 1)
        return Candidate(kind="peer", node=node, model=ModelId("m:q4_0"), reason="")

    def lost(self, error: MeshnodeError, *, spoke: bool) -> MeshnodeError | None:
        """Whoever it was is replaced."""
        self.notes.append(f"{self._route.node} {error.code}{' in mid-answer' if spoke else ''}")
        if spoke:
            return error
        return None if self._left else NobodyServes("nobody is left.")

    def late(self) -> None:
        """Noted."""
        self.notes.append(f"{self._route.node} late")

    def done(self, speed: Speed) -> None:
        """Noted."""
        self.notes.append(f"{self._route.node} done")
        self.speed = speed


class Run:
    """One answer by peers that are called a, b, c …"""

    def __init__(self, *scripts: Sequence[Step | None], request: GenerationRequest | None = None) -> None:
        self.names = [chr(ord("a") + number) for number in range(len(scripts))]
        self.asker = ScriptedAsker({name: [script] for name, script in zip(self.names, scripts, strict=True)})
        self.request = request or prompt(sampling=Sampling())
        self.course = Line(*self.names)

    def _open(self, candidate: Candidate, request: GenerationRequest) -> Events:
        peer = PeerId(candidate.node)
        return self.asker.ask(peer, request, offer(peer), model_offer())

    async def events(self) -> list[Event]:
        """All that the caller sees; raises what ``begin`` does."""
        async with AsyncExitStack() as stack:
            measure = Measure(Metrics(), trio.current_time, request=self.request.id, model=ModelId("m"))
            course: Course = self.course
            answer = Failover(self.request, course, self._open, stack.enter_context(measure), began=trio.current_time())
            stack.push_async_callback(answer.leave)
            await answer.begin()
            seen = [event async for event in answer]
            assert [event async for event in answer] == []
        assert self.asker.open == 0
        return seen


def kinds(events: Sequence[Event]) -> list[str]:
    """What they are."""
    return [type(event).__name__ for event in events]


def text(events: Sequence[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_whole_answer_is_handed_on_and_timed(autojump_clock: MockClock) -> None:
    said = [step for char in "x" * 11 for step in (1.0, TextDelta(char, token_ids=(1,)))]
    run = Run([2.0, ACCEPT, Started(5), *said, Finished(Usage(5, 11))])
    events = await run.events()
    assert kinds(events) == ["Started", *["TextDelta"] * 11, "Finished"]
    assert run.course.notes == ["a done"]
    assert run.course.speed == Speed(first_token_s=3.0, decode_tps=1.0)


async def test_who_fails_before_the_first_word_is_not_noticed(autojump_clock: MockClock) -> None:
    before: list[Step | None] = [ACCEPT, Queued(3), Loading(0.5), Started(5, seed=11), Prefilling(1, 5), Heartbeat()]
    broken: list[Step | None] = [*before, StreamReset("x")]
    run = Run(refuses(), broken, dies(), [ACCEPT, Queued(9), Loading(0.1), *answers("abc", seed=12)[1:]])
    events = await run.events()
    assert kinds(events) == [
        *["Queued", "Loading", "Started", "Prefilling", "Heartbeat"],
        *["TextDelta"] * 3,
        "Finished",
    ]
    assert text(events) == "abc"
    assert run.course.notes == ["a peer_refused", "b stream_reset", "c stream_reset", "d done"]
    seeds = [request.sampling.seed for _, request in run.asker.asked]
    assert seeds == [None, None, 11, 11]
    assert {request.model for _, request in run.asker.asked} == {"m:q4_0"}


async def test_queues_of_one_attempt_are_told_as_often_as_they_change(autojump_clock: MockClock) -> None:
    waits: list[Step | None] = [ACCEPT, Queued(3), Queued(2), Failed("peer_failed", "")]
    run = Run(waits, [ACCEPT, Queued(8), Loading(0.5), Loading(0.9), *answers()[1:]])
    assert kinds(await run.events())[:5] == ["Queued", "Queued", "Loading", "Loading", "Started"]


@pytest.mark.parametrize("word", [TextDelta("a"), RefusalDelta("no"), ChoiceFinished(FinishReason.STOP)], ids=type)
async def test_after_the_first_word_a_failure_is_the_end(autojump_clock: MockClock, word: Event) -> None:
    run = Run([ACCEPT, Started(5), word, Failed("stream_reset", "it gave up.")], answers())
    events = await run.events()
    assert events == [Started(5), word, Failed("stream_reset", "it gave up.")]
    assert run.course.notes == ["a stream_reset in mid-answer"]


async def test_an_answer_without_an_end_is_a_failure(autojump_clock: MockClock) -> None:
    run = Run([ACCEPT, Started(5)], [ACCEPT, Started(5), TextDelta("a")])
    events = await run.events()
    assert kinds(events) == ["Started", "TextDelta", "Failed"]
    assert run.course.notes == ["a internal_error", "b internal_error in mid-answer"]


async def test_with_nobody_left_the_caller_is_told_once(autojump_clock: MockClock) -> None:
    run = Run(refuses(), refuses())
    with pytest.raises(NobodyServes):
        await run.events()
    run = Run(dies(), refuses())
    events = await run.events()
    assert kinds(events) == ["Started", "Failed"]
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "no_provider"


async def test_each_attempt_has_what_is_left_of_the_deadline(autojump_clock: MockClock) -> None:
    run = Run([3.0, *refuses()], [2.0, *dies()], answers("abc", after=1.0), request=prompt(deadline_s=10.0))
    assert isinstance((await run.events())[-1], Finished)
    assert [request.deadline_s for _, request in run.asker.asked] == [10.0, 7.0, 5.0]


@pytest.mark.parametrize("script", [[HANG], [ACCEPT, HANG], [ACCEPT, Started(1), HANG]])
async def test_the_deadline_ends_a_hang_wherever_it_is(autojump_clock: MockClock, script: list[Step | None]) -> None:
    for request, after in ((prompt(deadline_s=7.0), 7.0), (prompt(), FIRST_TOKEN_S)):
        run, began = Run(script, request=request), trio.current_time()
        try:
            events = await run.events()
        except DeadlineExceeded:
            assert script == [HANG]
        else:
            assert isinstance(events[-1], Failed)
            assert events[-1].code == "deadline_exceeded"
        assert trio.current_time() - began == pytest.approx(after)
        assert run.asker.open == 0
        assert run.course.notes == ([] if request.deadline_s else ["a late"])


async def test_without_a_deadline_an_answer_that_has_begun_may_take_its_time(autojump_clock: MockClock) -> None:
    slow = [ACCEPT, Started(1), TextDelta("a"), 5 * FIRST_TOKEN_S, *answers("b")[2:]]
    assert text(await Run(slow).events()) == "ab"


async def test_a_peer_that_starts_twice_is_heard_once(autojump_clock: MockClock) -> None:
    run = Run([ACCEPT, Started(5), Started(6), Queued(1), *answers("a")[2:]])
    assert kinds(await run.events()) == ["Started", "TextDelta", "Finished"]


async def test_a_seed_that_was_asked_for_stays(autojump_clock: MockClock) -> None:
    run = Run(dies(), answers(seed=99), request=prompt(sampling=Sampling(seed=7)))
    await run.events()
    assert [request.sampling.seed for _, request in run.asker.asked] == [7, 7]
