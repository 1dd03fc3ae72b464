"""One request at a peer: hangs, heartbeats, credit, and what no honest provider sends. Bob is a puppet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from trio.testing import MockClock

from meshnode.domain import FinishReason
from meshnode.errors import InvalidField
from meshnode.events import (
    Charge,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    Heartbeat,
    Prefilling,
    Resumed,
    Started,
    TextDelta,
    Usage,
)
from meshnode.mesh.asker import PeerHung
from meshnode.mesh.outgoing import CREDIT, PROGRESS_S, draft_of
from meshnode.mesh.talk import ACCEPT_S, HANG_S
from meshnode.wire import messages as m
from tests.kit.mesh import make_self
from tests.kit.peers import BOB
from tests.kit.requests import endless, prompt
from tests.kit.scenes import OFFER, Scene, accepting, open_scene, telling, words


@pytest.fixture
async def scene(autojump_clock: MockClock) -> AsyncIterator[Scene]:
    """On a virtual clock."""
    async with open_scene() as opened:
        yield opened


async def test_who_does_not_answer_the_ask_has_hung(autojump_clock: MockClock, scene: Scene) -> None:
    began = trio.current_time()
    with pytest.raises(PeerHung):
        await scene.whole()
    assert trio.current_time() - began == pytest.approx(ACCEPT_S)


async def test_who_accepts_and_then_sends_nothing_has_hung(autojump_clock: MockClock, scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene)
        began = trio.current_time()
        [failed] = await scene.whole()
    assert isinstance(failed, Failed)
    assert failed.code == "peer_failed"
    assert trio.current_time() - began == pytest.approx(HANG_S)


async def test_heartbeats_keep_an_answer_alive(autojump_clock: MockClock, scene: Scene) -> None:
    async def beat() -> None:
        puppet, ask = await accepting(scene)
        await puppet.say(m.Events(((ask.number, Started(6)),)))
        for _ in range(20):
            await trio.sleep(HANG_S - 1)
            await puppet.say(m.Events(((ask.number, Heartbeat()),)))
        usage = Usage(prompt_tokens=6, completion_tokens=1)
        closing = (TextDelta("x", 0, (1,)), ChoiceFinished(FinishReason.STOP), Finished(usage))
        await puppet.say(*(m.Events(((ask.number, event),)) for event in closing))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        events = await scene.whole()
    assert isinstance(events[-1], Finished)


async def test_one_byte_a_second_is_silence(autojump_clock: MockClock, scene: Scene) -> None:
    async def trickle() -> None:
        puppet, _ = await accepting(scene)
        for _ in range(60):
            await puppet.stream.write(b"\0")
            await trio.sleep(1)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        [failed] = await scene.whole()
        assert trio.current_time() - began <= HANG_S + 1
        nursery.cancel_scope.cancel()
    assert isinstance(failed, Failed)


async def test_a_reader_that_stops_gets_no_more_than_its_credit(autojump_clock: MockClock, scene: Scene) -> None:
    granted: list[m.Credit] = []

    async def provide() -> None:
        puppet = await telling(scene, *words(CREDIT))
        while True:
            message = await puppet.hear()
            if isinstance(message, m.Credit):
                granted.append(message)

    request = endless("hello", model="a", tokens=2000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking(request) as events:
            await anext(events)
            await trio.sleep(5)
            assert not granted
            for _ in range(CREDIT // 4):
                await anext(events)
            await trio.sleep(1)
            assert [credit.items for credit in granted] == [((1, CREDIT // 4),)]
        nursery.cancel_scope.cancel()


LIES: list[tuple[str, Sequence[Event]]] = [
    ("text before a start", [TextDelta("x", 0, (1,))]),
    ("two starts", [Started(6), Started(6)]),
    ("another's choice", [Started(6), TextDelta("x", 3, (1,))]),
    ("a negative prompt", [Started(-1)]),
    ("a prompt longer than the request", [Started(10**6)]),
    ("text beyond all tokens", [Started(6), TextDelta("x" * 5000, 0, (1,))]),
    ("more than its bound", [Started(6), *(TextDelta("word", 0, (1,)) for _ in range(140))]),
    ("usage that is not so", [Started(6), TextDelta("x", 0, (1,)), ChoiceFinished(FinishReason.STOP),
                              Finished(Usage(prompt_tokens=6, completion_tokens=90))]),
    ("an end without a reason", [Started(6), Finished(Usage(prompt_tokens=6))]),
    ("a resumption", [Started(6), Resumed(3)]),
    ("anything after the end", [Failed("x", "y"), Heartbeat()]),
]  # fmt: skip


@pytest.mark.parametrize("events", [lie[1] for lie in LIES], ids=[lie[0] for lie in LIES])
async def test_what_no_honest_provider_sends_ends_the_session(
    autojump_clock: MockClock, scene: Scene, events: Sequence[Event]
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, *events)
        got = await scene.whole()
    assert isinstance(got[-1], Failed)
    await trio.sleep(1)
    assert [peer for peer, _ in scene.alice.violations] == [BOB.peer_id]


async def test_more_than_was_granted_ends_the_session(autojump_clock: MockClock, scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, *words(CREDIT + 40))
        async with scene.asking(endless("hello", model="a", tokens=5000)) as events:
            await trio.sleep(5)
            got = [event async for event in events]
    assert len(got) <= CREDIT + 20
    assert isinstance(got[-1], Failed)
    assert "more tokens than it was granted" in scene.alice.violations[0][1]


async def test_a_request_that_cannot_travel_is_the_callers_fault(autojump_clock: MockClock, scene: Scene) -> None:
    with pytest.raises(InvalidField, match="Unicode"):
        await scene.whole(prompt("\ud800", model="a"))


async def test_a_reader_that_is_slow_finds_only_the_newest_of_what_stands(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, Started(6), *(Heartbeat() for _ in range(5000)))
        async with scene.asking() as events:
            await trio.sleep(5)
            assert [await anext(events), await anext(events)] == [Started(6), Heartbeat()]
        nursery.cancel_scope.cancel()
    assert not scene.alice.violations


async def test_events_that_cost_no_credit_are_bounded_too(autojump_clock: MockClock, scene: Scene) -> None:
    mixed = [event for _ in range(2000) for event in (Prefilling(3, 6), Heartbeat())]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, Started(6), *mixed)
        async with scene.asking() as events:
            await trio.sleep(5)
            got = [event async for event in events]
    assert len(got) <= 4 * CREDIT + 1
    assert "ahead of its reader" in scene.alice.violations[0][1]


async def test_tokens_that_say_nothing_end_the_answer_and_not_the_session(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, Started(6), *(TextDelta("", 0, (1,) * 16) for _ in range(5)))
        got = await scene.whole()
    assert isinstance(got[-1], Failed)
    assert got[-1].code == "peer_failed"
    assert not scene.alice.violations


async def test_an_answer_that_stands_still_has_hung_whatever_signs_of_life_there_are(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async def beat() -> None:
        puppet = await telling(scene, *words(1))
        while True:
            await puppet.say(m.Beat(), m.Events(((1, Heartbeat()),)))
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        began = trio.current_time()
        got = await scene.whole()
        nursery.cancel_scope.cancel()
    assert isinstance(got[-1], Failed)
    assert PROGRESS_S <= trio.current_time() - began <= PROGRESS_S + 10


async def test_a_reader_that_comes_back_late_finds_the_answer_where_it_was(
    autojump_clock: MockClock, scene: Scene
) -> None:
    async def provide() -> None:
        puppet = await telling(scene, *words(3))
        for _ in range(100):
            await trio.sleep(5)
            await puppet.say(m.Events(((1, Heartbeat()),)))
        await puppet.say(m.Events(((1, TextDelta("more", 0, (1,))),)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        async with scene.asking() as events:
            await anext(events)
            await trio.sleep(400)
            for _ in range(3):
                await anext(events)
            while not isinstance(event := await anext(events), TextDelta):
                assert isinstance(event, Heartbeat)
        nursery.cancel_scope.cancel()


# --- what it may cost -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"max_cost_uc": 4000}, 45),
        ({"max_cost_uc": 4000, "tokens": 40}, 40),
        ({"max_cost_uc": 4000, "tokens": 40, "choices": 3}, 15),
        ({"max_cost_uc": 10**9, "tokens": 40, "choices": 3}, 40),
        ({"max_cost_uc": 1}, 1),
        ({"max_cost_uc": None}, 0),
    ],
)
def test_an_answer_is_asked_for_no_longer_than_its_bound_pays_for(fields: dict[str, int], most: int) -> None:
    us = make_self(BOB)
    draft = draft_of(endless("hello", model="a", **fields), OFFER, OFFER.models[0], us)
    assert m.decode_terms(draft.terms).max_tokens == most


async def test_an_answer_ends_before_it_costs_more_than_it_may(autojump_clock: MockClock, scene: Scene) -> None:
    heard: list[m.Message] = []

    async def provide() -> None:
        puppet = await telling(scene, Started(300), *words(40)[1:])
        while m.Cancel(1) not in heard:
            heard.append(await puppet.hear())
        await puppet.say(m.Events(((1, Failed("cancelled", "it left")),)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        events = await scene.whole(endless("hello", model="a", max_cost_uc=4000))
    said = [event for event in events if isinstance(event, TextDelta)]
    assert len(said) == 12, "a 300-token prompt and 12 tokens cost 3960"
    assert events[-2:] == [
        ChoiceFinished(FinishReason.LENGTH),
        Finished(Usage(300, 12), charge=Charge("rcpt_" + (1).to_bytes(12, "big").hex(), 3960)),
    ]
    assert not scene.alice.violations


async def test_a_prompt_that_costs_too_much_is_not_answered(autojump_clock: MockClock, scene: Scene) -> None:
    async def provide() -> None:
        puppet = await telling(scene, Started(400))
        while not isinstance(await puppet.hear(), m.Cancel):
            pass
        await puppet.say(m.Events(((1, Failed("cancelled", "it left")),)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(provide)
        events = await scene.whole(endless("hello", model="a", max_cost_uc=4000))
    assert events[0] == Started(400)
    assert isinstance(events[-1], Failed)
    assert (events[-1].code, events[-1].param) == ("capability_unavailable", "max_cost")
    assert (await scene.alice.book.accounts()).spent == 0


async def test_the_last_event_says_what_it_cost_whatever_the_peer_claims(
    autojump_clock: MockClock, scene: Scene
) -> None:
    lie = Finished(Usage(6, 40), charge=Charge("rcpt_lie", 1))
    said: tuple[Event, ...] = (*words(40), ChoiceFinished(FinishReason.STOP), lie)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling, scene, *said)
        last = (await scene.whole())[-1]
    assert isinstance(last, Finished)
    assert last.charge is not None
    assert last.charge.cost_uc == 6 * 10 + 40 * 80
    charged = scene.alice.charges.find(last.charge.receipt)
    assert charged is not None
    assert (charged.peer, charged.model, charged.provider) == (BOB.peer_id, "a", BOB.ledger_public)
    assert (charged.prompt_tokens, charged.output_tokens, charged.cost_uc, charged.closed) == (6, 40, 3260, True)
