"""A session's stream: what is said together travels together, silence is filled, who does not read is cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import PeerId
from meshnode.errors import InternalFault, StreamReset
from meshnode.events import Failed, TextDelta
from meshnode.mesh.asker import PeerHung
from meshnode.mesh.talk import BEAT_S, STALL_S, Talk, Tasks
from meshnode.wire import messages as m
from meshnode.wire.canonical import encode
from meshnode.wire.session import Role, Session
from tests.kit.mesh import make_self
from tests.kit.offers import NETWORK, terms
from tests.kit.peers import ALICE, BOB
from tests.kit.requests import prompt


class Tape:
    """A stream that keeps what is written to it, and gives what it was made with; ``stuck`` takes nothing more."""

    peer = PeerId("them")
    protocol = m.PROTOCOL

    def __init__(self, *heard: bytes) -> None:
        self.written: list[bytes] = []
        self.stuck = False
        self._heard = list(heard)

    async def read(self, limit: int = 65536) -> bytes:
        """The next of what it was made with."""
        await trio.lowlevel.checkpoint()
        return self._heard.pop(0) if self._heard else b""

    async def write(self, data: bytes) -> None:
        """Keep it."""
        await trio.lowlevel.checkpoint()
        if self.stuck:
            await trio.sleep_forever()
        self.written.append(data)

    async def close_write(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def reset(self) -> None:
        """Nothing."""


def opened(role: Role) -> Session:
    """A session past its greeting, with request 1 running."""
    session, other = Session(role), Session(role.other)
    request = prompt(model="a", tokens=5)
    asked = encode(terms(BOB, request))
    size = m.decode_terms(asked).body_bytes
    steps: list[tuple[Role, m.Message]] = []
    for speaker, who in ((Role.CALLER, ALICE), (Role.PROVIDER, BOB)):
        us = make_self(who)
        steps.append((speaker, m.Hello(1, NETWORK, us.identity.ledger_public, b"n" * 16, "", 8)))
    steps += [(Role.CALLER, m.Proof(bytes(64))), (Role.PROVIDER, m.Proof(bytes(64)))]
    steps += [(Role.CALLER, m.Ask(1, asked, bytes(64), 1 << 20)), (Role.PROVIDER, m.Accept(1))]
    steps += [(Role.CALLER, m.Body(1, bytes(size), last=True))]
    for speaker, message in steps:
        ours, theirs = (session, other) if speaker is role else (other, session)
        assert list(theirs.receive(ours.pack(message))) == [message]
    return session


@pytest.fixture
async def nursery_of_talks(autojump_clock: MockClock) -> AsyncIterator[trio.Nursery]:
    """Where writing tasks run."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


async def test_events_of_many_tasks_that_wake_together_share_a_frame(
    autojump_clock: MockClock, nursery_of_talks: trio.Nursery
) -> None:
    tape = Tape()
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    nursery_of_talks.start_soon(talk.write)
    step = trio.Event()

    async def speak(number: int) -> None:
        await step.wait()
        talk.tell(1, TextDelta(str(number), 0, (1,)))

    async with trio.open_nursery() as speakers:
        for number in range(50):
            speakers.start_soon(speak, number)
        await trio.testing.wait_all_tasks_blocked()
        step.set()
    await trio.sleep(0.1)
    [frame] = tape.written
    message = m.decode(frame[4:])
    assert isinstance(message, m.Events)
    assert len(message.items) == 50


async def test_what_is_said_keeps_its_order(autojump_clock: MockClock, nursery_of_talks: trio.Nursery) -> None:
    tape, there = Tape(), opened(Role.CALLER)
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    talk.tell(1, TextDelta("a", 0, (1,)))
    talk.say(m.Beat())
    talk.tell(1, TextDelta("b", 0, (1,)))
    talk.tell(1, Failed("x", "y"))
    nursery_of_talks.start_soon(talk.write)
    await trio.sleep(0.1)
    heard = [message for data in tape.written for message in there.receive(data)]
    assert [type(message).__name__ for message in heard] == ["Events", "Beat", "Events"]
    assert isinstance(heard[2], m.Events)
    assert len(heard[2].items) == 2


async def test_events_too_many_for_a_frame_go_in_several(
    autojump_clock: MockClock, nursery_of_talks: trio.Nursery
) -> None:
    tape, there = Tape(), opened(Role.CALLER)
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    for _ in range(40):
        talk.tell(1, TextDelta("x" * 100_000, 0, (1,)))
    nursery_of_talks.start_soon(talk.write)
    await trio.sleep(0.1)
    heard = [message for data in tape.written for message in there.receive(data)]
    assert len(heard) > 1
    assert sum(len(message.items) for message in heard if isinstance(message, m.Events)) == 40


async def test_silence_is_filled_only_while_something_is_owed(
    autojump_clock: MockClock, nursery_of_talks: trio.Nursery
) -> None:
    busy, idle = Tape(), Tape()
    nursery_of_talks.start_soon(Talk(busy, Role.PROVIDER, opened(Role.PROVIDER)).write)
    nursery_of_talks.start_soon(Talk(idle, Role.PROVIDER, Session(Role.PROVIDER)).write)
    await trio.sleep(3 * BEAT_S + 1)
    assert len(busy.written) == 3
    assert not idle.written


async def test_who_does_not_read_is_a_violation(autojump_clock: MockClock) -> None:
    tape = Tape()
    tape.stuck = True
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    talk.say(m.Beat())
    began = trio.current_time()
    with pytest.raises(PeerHung, match="did not read"):
        await talk.write()
    assert trio.current_time() - began == pytest.approx(STALL_S)


async def test_more_than_can_ever_wait_is_a_violation(autojump_clock: MockClock) -> None:
    talk = Talk(Tape(), Role.PROVIDER, opened(Role.PROVIDER))
    for _ in range(300):
        talk.tell(1, TextDelta("x" * 100_000, 0, (1,)))
    with pytest.raises(PeerHung, match="bytes wait"):
        await talk.write()


async def test_saying_what_is_out_of_order_is_our_own_fault_and_never_sent(autojump_clock: MockClock) -> None:
    tape = Tape()
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    talk.say(m.Accept(1))
    with pytest.raises(InternalFault):
        await talk.flush()
    assert not tape.written


async def test_an_end_is_never_silent(autojump_clock: MockClock) -> None:
    with pytest.raises(StreamReset):
        await Talk(Tape(), Role.CALLER, Session(Role.CALLER)).hear()


async def test_messages_are_heard_one_by_one_however_they_come(autojump_clock: MockClock) -> None:
    other = opened(Role.PROVIDER)
    data = other.pack(m.Beat()) + other.pack(m.Events(((1, TextDelta("x", 0, (1,))),)))
    talk = Talk(Tape(data[:5], data[5:9], data[9:]), Role.CALLER, opened(Role.CALLER))
    assert [type(await talk.hear()).__name__ for _ in range(2)] == ["Beat", "Events"]


async def test_bodies_wait_for_room(autojump_clock: MockClock, nursery_of_talks: trio.Nursery) -> None:
    tape = Tape()
    tape.stuck = True
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    talk.tell(1, TextDelta("x" * 300_000, 0, (1,)))
    nursery_of_talks.start_soon(_quietly, talk)
    with trio.move_on_after(1) as waiting:
        await talk.room()
    assert waiting.cancelled_caught


async def test_everybody_who_waits_for_room_gets_it(autojump_clock: MockClock) -> None:
    tape, through = Tape(), list[int]()
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))

    async def wait(number: int) -> None:
        await talk.room()
        through.append(number)
        talk.tell(1, TextDelta("x" * 300_000, 0, (1,)))

    async with trio.open_nursery() as nursery:
        talk.tell(1, TextDelta("x" * 300_000, 0, (1,)))
        for number in range(3):
            nursery.start_soon(wait, number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(talk.write)
        await trio.sleep(1)
        assert sorted(through) == [0, 1, 2]
        nursery.cancel_scope.cancel()


async def test_nothing_is_added_to_a_frame_that_was_cut(autojump_clock: MockClock) -> None:
    tape = Tape()
    tape.stuck = True
    talk = Talk(tape, Role.PROVIDER, opened(Role.PROVIDER))
    talk.say(m.Beat())
    with trio.move_on_after(1):
        await talk.write()
    tape.stuck = False
    talk.say(m.Bye("x"))
    await talk.flush()
    assert not tape.written


async def _quietly(talk: Talk) -> None:
    with pytest.raises(PeerHung):
        await talk.write()


# --- tasks --------------------------------------------------------------------------------------


async def test_the_first_failure_ends_all_and_is_kept(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def fail(after: float) -> None:
        await trio.sleep(after)
        raise ValueError(after)

    async def last() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("last")

    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        for task in (last, last):
            tasks.start(task)
        tasks.start(fail, 2.0)
        tasks.start(fail, 1.0)
    assert repr(tasks.failure) == "ValueError(1.0)"
    assert ended == ["last", "last"]


async def test_cancelled_from_outside_nothing_failed(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        tasks.start(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    assert tasks.failure is None
