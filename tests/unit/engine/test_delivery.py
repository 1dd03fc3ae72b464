"""Credit and order, without any engine."""

from __future__ import annotations

import pytest
import trio

from meshnode.domain import GenerationRequest, ModelId, RequestId
from meshnode.engine.delivery import Delivery, Multiplexer
from meshnode.engine.gate import Gate
from meshnode.engine.pipe import UNLIMITED, Cancel, Gauge, Grant, Step, Submit
from meshnode.errors import BodyTooLarge, ProtocolViolation
from meshnode.events import Event, Failed, Finished, Prefilling, Queued, Started, TextDelta, Usage

REQUEST = GenerationRequest(id=RequestId("r"), model=ModelId("m"), prompt="hi")
FINISHED = Finished(Usage())
GONE = Failed("worker_died", "gone")


def delta(tokens: int = 1) -> TextDelta:
    """Text of so many tokens."""
    return TextDelta("x" * tokens, 0, tuple(range(tokens)))


async def read(delivery: Delivery, count: int) -> list[Event]:
    """The next events."""
    return [await anext(delivery) for _ in range(count)]


async def test_what_is_no_token_gives_nothing_back() -> None:
    grants: list[int] = []
    delivery = Delivery(grants.append, window=1)
    for event in (Queued(1), Started(1000), Prefilling(1, 1000), FINISHED):
        delivery.put(event)
    await read(delivery, 4)
    assert grants == []


async def test_what_is_read_is_granted_again_and_what_is_not_is_not() -> None:
    grants: list[int] = []
    delivery = Delivery(grants.append, window=64)
    for _ in range(64):
        delivery.put(delta())
    assert grants == []
    await read(delivery, 64)
    assert sum(grants) == 64
    assert len(grants) == 4


async def test_a_delta_gives_back_every_token_it_holds() -> None:
    grants: list[int] = []
    delivery = Delivery(grants.append, window=64)
    delivery.put(delta(40))
    await read(delivery, 1)
    assert grants == [40]


async def test_nothing_follows_the_end() -> None:
    delivery = Delivery(lambda _: None)
    for event in (delta(), FINISHED, delta(), GONE):
        delivery.put(event)
    assert [event async for event in delivery] == [delta(), FINISHED]
    with pytest.raises(StopAsyncIteration):
        await anext(delivery)


async def test_unread_progress_is_replaced_by_newer() -> None:
    delivery = Delivery(lambda _: None)
    for event in (Queued(3), Queued(2), Queued(1), Started(9), Prefilling(1, 9), Prefilling(5, 9), FINISHED):
        delivery.put(event)
    assert [event async for event in delivery] == [Queued(1), Started(9), Prefilling(5, 9), FINISHED]


async def test_an_engine_that_ignores_credit_is_in_breach() -> None:
    delivery = Delivery(lambda _: None, window=16)
    for _ in range(64):
        delivery.put(delta())
    with pytest.raises(ProtocolViolation):
        delivery.put(delta())
    assert delivery.held == 64


async def test_a_reader_that_gave_up_once_loses_nothing() -> None:
    delivery = Delivery(lambda _: None)
    with trio.move_on_after(0.01):
        await anext(delivery)
    delivery.put(delta())
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(delivery)
    assert await anext(delivery) == delta()


class Wire:
    """Notes what is sent to an engine; may refuse."""

    def __init__(self) -> None:
        self.sent: list[Submit | Grant | Cancel] = []
        self.refuse = False

    def __call__(self, message: Submit | Grant | Cancel) -> None:
        if self.refuse:
            raise BodyTooLarge("too large")
        self.sent.append(message)


async def test_a_request_is_submitted_with_one_window_and_cancelled_when_left() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire, window=64)
    async with multiplexer.generate(REQUEST):
        assert multiplexer.busy
    assert wire.sent == [Submit(1, REQUEST, 64, UNLIMITED), Cancel(1)]
    assert not multiplexer.busy


async def test_an_answer_that_is_whole_needs_no_cancel() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire)
    async with multiplexer.generate(REQUEST) as events:
        multiplexer.commit(Step(((1, FINISHED), (99, delta())), Gauge(running=3)))
        assert not multiplexer.busy
        assert [event async for event in events] == [FINISHED]
    assert len(wire.sent) == 1
    assert multiplexer.gauge == Gauge(running=3)


async def test_numbers_are_never_used_twice() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire)
    for _ in range(3):
        async with multiplexer.generate(REQUEST):
            pass
    assert [message.number for message in wire.sent if isinstance(message, Submit)] == [1, 2, 3]


async def test_a_refused_request_leaves_nothing_behind() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire)
    wire.refuse = True
    with pytest.raises(BodyTooLarge):
        async with multiplexer.generate(REQUEST):
            pass
    assert not multiplexer.busy


async def test_once_closed_every_answer_has_one_end_and_nothing_is_sent() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire)
    async with multiplexer.generate(REQUEST) as first, multiplexer.generate(REQUEST) as second:
        multiplexer.commit(Step(((2, FINISHED),)))
        multiplexer.close(GONE)
        multiplexer.close(Failed("later", "too late"))
        assert [event async for event in first] == [GONE]
        assert [event async for event in second] == [FINISHED]
    async with multiplexer.generate(REQUEST) as third:
        assert [event async for event in third] == [GONE]
    assert [type(message) for message in wire.sent] == [Submit, Submit]


async def test_failing_all_spares_the_engine_for_later_requests() -> None:
    wire = Wire()
    multiplexer = Multiplexer(wire)
    async with multiplexer.generate(REQUEST) as events:
        multiplexer.fail_all(Failed("draining", "stopping"))
        assert [event async for event in events] == [Failed("draining", "stopping")]
    async with multiplexer.generate(REQUEST) as events:
        multiplexer.commit(Step(((2, FINISHED),)))
        assert [event async for event in events] == [FINISHED]
    assert [type(message) for message in wire.sent] == [Submit, Cancel, Submit]


# --- with a gate --------------------------------------------------------------------------------


def speak(multiplexer: Multiplexer, tokens: int, number: int = 1) -> None:
    """The engine says so many tokens of a request."""
    multiplexer.commit(Step(tuple((number, delta()) for _ in range(tokens))))


async def test_a_gated_request_is_submitted_with_what_is_paid_and_granted_what_is_paid_on() -> None:
    wire, gate = Wire(), Gate(100, 10)
    multiplexer = Multiplexer(wire, window=64)
    async with multiplexer.generate(REQUEST, gate):
        gate.allow(prefill=300)
        gate.allow(prefill=300, decode=20)
        gate.allow(prefill=5, decode=5)
    gate.allow(prefill=900, decode=900)
    assert wire.sent == [Submit(1, REQUEST, 10, 100), Grant(1, 0, 200), Grant(1, 10, 0), Cancel(1)]


async def test_a_gate_gives_a_reader_that_stops_no_more_than_its_window() -> None:
    wire, gate = Wire(), Gate(100, 1000)
    multiplexer = Multiplexer(wire, window=64)
    async with multiplexer.generate(REQUEST, gate) as delivery:
        gate.allow(decode=2000)
        speak(multiplexer, 32)
        assert wire.sent == [Submit(1, REQUEST, 64, 100)]
        await read(delivery, 32)
        assert wire.sent[1:] == [Grant(1, 16), Grant(1, 16)]


async def test_a_reader_gives_an_unpaid_answer_no_more_than_its_gate() -> None:
    wire, gate = Wire(), Gate(100, 70)
    multiplexer = Multiplexer(wire, window=64)
    async with multiplexer.generate(REQUEST, gate) as delivery:
        speak(multiplexer, 48)
        await read(delivery, 48)
        assert wire.sent == [Submit(1, REQUEST, 64, 100), Grant(1, 6)]
        gate.allow(decode=80)
        gate.allow(decode=1000)
    assert wire.sent[2:] == [Grant(1, 10), Grant(1, 32), Cancel(1)], "up to what the reader had left room for"


async def test_an_answer_that_has_ended_is_granted_nothing() -> None:
    wire, gate = Wire(), Gate(1, 1)
    multiplexer = Multiplexer(wire)
    async with multiplexer.generate(REQUEST, gate), multiplexer.generate(REQUEST, unread := Gate(1, 1)):
        multiplexer.commit(Step(((1, FINISHED),)))
        gate.allow(decode=9)
        multiplexer.close(GONE)
        unread.allow(decode=9)
    assert [type(message) for message in wire.sent] == [Submit, Submit]


async def test_the_next_attempt_is_submitted_with_all_that_was_allowed() -> None:
    first, second, gate = Wire(), Wire(), Gate(10, 1)
    async with Multiplexer(first).generate(REQUEST, gate):
        gate.allow(prefill=20, decode=2)
    async with Multiplexer(second).generate(REQUEST, gate):
        gate.allow(prefill=21)
    assert first.sent[-1] == Cancel(1)
    assert second.sent == [Submit(1, REQUEST, 2, 20), Grant(1, 0, 1), Cancel(1)]


async def test_a_refused_request_is_not_attached_to_its_gate() -> None:
    wire, gate = Wire(), Gate(1, 1)
    wire.refuse = True
    with pytest.raises(BodyTooLarge):
        async with Multiplexer(wire).generate(REQUEST, gate):
            pass
    wire.refuse = False
    gate.allow(decode=9)
    assert wire.sent == []
