"""One answer under way, read by its own task; on virtual time."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
import trio
from trio.testing import MockClock

from meshnode.config import ApiSettings
from meshnode.domain import GenerationRequest, ModelId, RequestId
from meshnode.errors import Draining, InternalFault, ModelNotFound, Overloaded
from meshnode.events import Finished, Started, TextDelta
from meshnode.gateway.feed import WINDOW, start_feed
from tests.kit.api import Scripted, a_context, endless, spoken

REQUEST = GenerationRequest(id=RequestId("r1"), model=ModelId("tiny"), prompt="x")


async def test_events_come_in_order_and_end() -> None:
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(Scripted(spoken("a", "b")), []), REQUEST)
        kinds = []
        while (event := await feed.receive()) is not None:
            kinds.append(type(event).__name__)
    assert kinds == ["Started", "TextDelta", "TextDelta", "ChoiceFinished", "Finished"]
    assert feed.route is not None


async def test_a_reader_that_stops_is_read_ahead_of_by_a_window_only(autojump_clock: MockClock) -> None:
    played = 0

    async def count() -> None:
        nonlocal played
        played += 1

    steps = [Started(1), *[step for _ in range(1000) for step in (count, TextDelta("x"))]]
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(Scripted(steps), []), REQUEST)
        await trio.sleep(10)
        assert played <= WINDOW + 1
        assert len(feed.ready()) <= WINDOW + 1, "the window, and the one that waited at its edge"
        nursery.cancel_scope.cancel()


async def test_ready_never_waits() -> None:
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(Scripted([trio.sleep_forever]), []), REQUEST)
        assert feed.ready() == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("error", [ModelNotFound("x"), Overloaded("y")])
async def test_a_refusal_is_raised_to_the_reader(error: Exception) -> None:
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(Scripted([], refusal=error), []), REQUEST)
        with pytest.raises(type(error)):
            await feed.receive()


async def test_an_answer_that_breaks_off_is_our_fault() -> None:
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(Scripted([Started(1)]), []), REQUEST)
        assert await feed.receive() == Started(1)
        with pytest.raises(InternalFault):
            await feed.receive()


async def test_a_stopping_node_ends_it_and_begins_no_other() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    context = a_context(dispatcher, [])
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, context, REQUEST)
        await feed.receive()
        context.draining.set()
        with pytest.raises(Draining):  # noqa: PT012
            while True:
                await feed.receive()
        with pytest.raises(Draining):
            start_feed(nursery, context, REQUEST)
    assert dispatcher.inside == 0


async def test_an_answer_that_was_whole_stays_whole_when_the_node_stops() -> None:
    context = a_context(Scripted(spoken("a")), [])
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, context, REQUEST)
        events = [await feed.receive()]
        while not isinstance(events[-1], Finished):
            events.append(await feed.receive())
        context.draining.set()
        assert await feed.receive() is None


async def test_leaving_the_nursery_leaves_the_dispatchers_block() -> None:
    dispatcher = Scripted([*endless(), trio.sleep_forever])
    async with trio.open_nursery() as nursery:
        start_feed(nursery, a_context(dispatcher, []), REQUEST)
        await dispatcher.entered.wait()
        nursery.cancel_scope.cancel()
    assert dispatcher.inside == 0


async def test_what_a_request_waited_for_its_turn_is_taken_off_its_deadline(autojump_clock: MockClock) -> None:
    dispatcher = Scripted([partial(trio.sleep, 3.0), *spoken("a")])
    context = a_context(dispatcher, [], settings=ApiSettings(address="127.0.0.1:0", max_generating=1))
    async with trio.open_nursery() as nursery:
        start_feed(nursery, context, REQUEST)
        await dispatcher.entered.wait()
        feed = start_feed(nursery, context, msgspec.structs.replace(REQUEST, deadline_s=10.0))
        while not isinstance(await feed.receive(), Finished):
            pass
    assert dispatcher.requests[0].deadline_s is None
    assert dispatcher.requests[1].deadline_s == pytest.approx(7.0)


async def test_the_route_is_the_one_taken_in_the_end() -> None:
    dispatcher = Scripted([Started(1), trio.sleep_forever])
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, a_context(dispatcher, []), REQUEST)
        routes = [feed.route]
        await feed.receive()
        (answer,) = dispatcher.answers
        routes.append(feed.route)
        answer.route = msgspec.structs.replace(answer.route, attempts=2)
        routes.append(feed.route)
        assert [route and route.attempts for route in routes] == [None, 1, 2]
        nursery.cancel_scope.cancel()
