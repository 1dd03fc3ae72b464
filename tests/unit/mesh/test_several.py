"""A request with several prompts, over dispatchers that play a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.domain import FinishReason, GenerationRequest, ModelId
from meshnode.errors import InternalFault, ModelNotFound, Overloaded
from meshnode.events import (
    Charge,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    Prefilling,
    Queued,
    Started,
    TextDelta,
    Timings,
    Usage,
)
from meshnode.mesh.answer import Answer, Route
from meshnode.mesh.several import PARALLEL, SeveralDispatcher, apart, total
from tests.kit.requests import prompt

Prompt = str | tuple[int, ...]
Act = Event | Exception | Callable[[], Awaitable[object]]


class Played:
    """One answer."""

    def __init__(self, acts: Sequence[Act], node: str) -> None:
        self._acts = list(acts)
        self.route = Route(kind="local", model=ModelId("m"), node=node)

    def __aiter__(self) -> Played:
        return self

    async def __anext__(self) -> Event:
        while self._acts:
            await trio.lowlevel.checkpoint()
            act = self._acts.pop(0)
            if isinstance(act, Exception):
                raise act
            if isinstance(act, msgspec.Struct):
                return act
            await act()
        raise StopAsyncIteration


class Stage:
    """A dispatcher with a script for each prompt; an error that comes first is raised in the place of an answer."""

    def __init__(self, scripts: Mapping[Prompt, Sequence[Act]]) -> None:
        self._scripts = scripts
        self.requests: list[GenerationRequest] = []
        self.inside = self.most = 0

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[Answer]:
        """One answer of the script."""
        assert request.prompt is not None
        script = self._scripts[request.prompt]
        self.requests.append(request)
        if isinstance(script[0], Exception):
            raise script[0]
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            yield Played(script, str(request.prompt))
        finally:
            self.inside -= 1


def said(*texts: str, choices: int = 1, prompt_tokens: int = 3, predicted_ms: float = 5.0) -> list[Act]:
    """An answer that goes well."""
    spoken: list[Act] = [Started(prompt_tokens)]
    for choice in range(choices):
        spoken += [TextDelta(text, choice) for text in texts]
        spoken.append(ChoiceFinished(FinishReason.STOP, choice))
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=choices * len(texts))
    return [*spoken, Finished(usage, Timings(predicted_ms=predicted_ms))]


def asking(*prompts: Prompt, **fields: Any) -> GenerationRequest:
    """A request for answers to all of these."""
    return prompt(prompt=None, prompts=prompts, **fields)


async def ask(stage: Stage, request: GenerationRequest) -> list[Event]:
    """All events of one request."""
    with trio.fail_after(10):
        async with SeveralDispatcher(stage).open(request) as answer:
            events = [event async for event in answer]
    assert stage.inside == 0
    return events


def texts(events: Sequence[Event]) -> dict[int, str]:
    """What each choice said."""
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            found[event.choice] = found.get(event.choice, "") + event.text
    return found


async def test_a_single_prompt_passes_as_it_is() -> None:
    stage, request = Stage({"a": said("x")}), prompt("a")
    async with SeveralDispatcher(stage).open(request) as answer:
        assert [event async for event in answer] == said("x")
        assert isinstance(answer, Played)
    assert stage.requests == [request]


async def test_choices_are_numbered_through_and_tokens_added_up() -> None:
    stage = Stage({"a": said("x", "y", choices=2), (1, 2): said("z", choices=2, prompt_tokens=4, predicted_ms=9.0)})
    events = await ask(stage, asking("a", (1, 2), choices=2))
    assert texts(events) == {0: "xy", 1: "xy", 2: "z", 3: "z"}
    assert sorted(event.choice for event in events if isinstance(event, ChoiceFinished)) == [0, 1, 2, 3]
    assert [type(event) for event in events].count(Started) == 1
    assert events[-1] == Finished(Usage(prompt_tokens=7, completion_tokens=6), Timings(predicted_ms=9.0))
    assert [(request.prompt, request.prompts, request.choices) for request in stage.requests] == [
        ("a", (), 2),
        ((1, 2), (), 2),
    ]
    assert len({request.id for request in stage.requests}) == 2


async def test_those_who_wait_hear_of_the_first_prompt() -> None:
    waits: list[Act] = [Queued(3), Prefilling(1, 2)]
    stage = Stage({"a": [*waits, *said("x")], "b": [Queued(9), Prefilling(7, 8), *said("y")]})
    events = await ask(stage, asking("a", "b"))
    assert [event for event in events if isinstance(event, Queued | Prefilling)] == waits


async def test_a_few_are_answered_at_a_time_and_all_in_the_end() -> None:
    prompts = [f"p{number}" for number in range(40)]
    stage = Stage({text: said(text) for text in prompts})
    events = await ask(stage, asking(*prompts))
    assert texts(events) == dict(enumerate(prompts))
    assert 1 < stage.most <= PARALLEL


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Started(1), Failed("worker_died", "it died.")], "worker_died"),
        ([Started(1), Overloaded("full.")], "overloaded"),
        ([Overloaded("full.")], "overloaded"),
        ([Started(1), TextDelta("x")], InternalFault.code),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_the_first_that_fails_ends_them_all(script: list[Act], code: str, *, first: bool) -> None:
    stage = Stage({"bad": script, "endless": [Started(1), trio.sleep_forever]})
    prompts = ("bad", "endless") if first else ("endless", "bad")
    if first and isinstance(script[0], Exception):
        with pytest.raises(Overloaded):
            await ask(stage, asking(*prompts))
    else:
        last = (await ask(stage, asking(*prompts)))[-1]
        assert isinstance(last, Failed)
        assert last.code == code
    assert stage.inside == 0


async def test_leaving_ends_every_answer_and_a_callers_error_comes_out_as_it_was() -> None:
    stage = Stage({"a": [Started(1), trio.sleep_forever], "b": [Started(1), trio.sleep_forever]})

    async def fail() -> None:
        async with SeveralDispatcher(stage).open(asking("a", "b")) as answer:
            await anext(aiter(answer))
            assert answer.route.node == "a"
            raise ModelNotFound("mine")

    with trio.fail_after(10), pytest.raises(ModelNotFound, match="mine"):
        await fail()
    assert stage.inside == 0


async def test_a_reader_that_stands_still_stops_them_all() -> None:
    stage = Stage({text: said(*["x"] * 1000) for text in "abc"})
    async with SeveralDispatcher(stage).open(asking("a", "b", "c")) as answer:
        await wait_all_tasks_blocked()
        assert isinstance(await anext(aiter(answer)), Started)
        assert stage.inside == 3


async def test_the_deadline_is_that_of_all(autojump_clock: MockClock) -> None:
    async def late() -> None:
        await trio.sleep(4)

    stage = Stage({f"p{number}": [late, *said("x")] for number in range(PARALLEL + 1)})
    await ask(stage, asking(*(f"p{number}" for number in range(PARALLEL + 1)), deadline_s=10.0))
    assert stage.requests[0].deadline_s == 10.0
    assert stage.requests[-1].deadline_s == pytest.approx(6.0)


def test_a_bound_on_the_cost_is_shared_out_and_what_each_cost_is_added() -> None:
    assert [one.max_cost_uc for one in apart(asking("a", "b", "c", max_cost_uc=100))] == [33, 33, 33]
    assert [one.max_cost_uc for one in apart(asking("a", "b"))] == [None, None]
    finished = [
        Finished(Usage(1), charge=Charge("r1", 7)),
        Finished(Usage(1)),
        Finished(Usage(1), charge=Charge("r2", 5)),
    ]
    assert total(finished).charge == Charge("r1,r2", 12)
    assert total(finished[1:2]).charge is None
