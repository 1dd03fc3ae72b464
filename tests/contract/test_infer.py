"""Asking and serving on both transports: alice asks, bob answers, and the books say the same on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from meshnode.domain import FinishReason, GenerationRequest
from meshnode.errors import Unreachable
from meshnode.events import ChoiceFinished, EmbeddingResult, Event, Failed, Finished, Started, TextDelta, decoded_tokens
from meshnode.mesh.asker import PeerRefused
from meshnode.mesh.settle import SLICE
from meshnode.net.transport import Transport
from tests.kit.mesh import Party, open_party
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB
from tests.kit.requests import embedding, endless, prompt


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    """Nothing here may hang."""
    with trio.fail_after(60):
        yield


@pytest.fixture
async def pair(alice: Transport, bob: Transport) -> AsyncIterator[tuple[Party, Party]]:
    """Alice, connected to Bob, both with an engine."""
    async with open_party(ALICE, alice, step_s=0.002) as asking, open_party(BOB, bob, step_s=0.002) as serving:
        await alice.connect(bob.addresses[0])
        yield asking, serving


def text(events: Sequence[Event]) -> str:
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def settled(asking: Party, serving: Party, requests: int = 1) -> tuple[int, int]:
    """Spent and earned, once both books agree on that many requests and all is confirmed."""

    async def until() -> tuple[int, int]:
        while True:
            spent, earned = await asking.book.accounts(), await serving.book.accounts()
            known = sum(channel.requests for channel in spent.channels if channel.role == "consumer")
            unpaid = spent.spent != earned.earned or spent.spent_unconfirmed or earned.earned_unconfirmed
            if known == requests and not unpaid and not serving.places.held:
                return spent.spent, earned.earned
            await trio.sleep(0.01)

    with trio.fail_after(10):
        return await until()


async def test_an_answer_comes_whole_and_is_paid_for(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    events = await alice.whole(bob, endless("tell me", model="a", tokens=100))
    assert len([event for event in events if isinstance(event, Started)]) == 1
    assert isinstance(events[-1], Finished)
    assert events[-2] == ChoiceFinished(FinishReason.LENGTH)
    assert events[-1].usage.completion_tokens == 100 == sum(map(decoded_tokens, events))
    spent, earned = await settled(alice, bob)
    assert spent == earned == events[-1].usage.prompt_tokens * 10 + 100 * 80
    view = await bob.book.accounts()
    assert [(c.requests, c.prompt_tokens, c.output_tokens) for c in view.channels] == [(1, len("tell me") + 1, 100)]
    assert not alice.violations + bob.violations


async def test_the_answer_is_the_one_that_the_engine_gives_at_home(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    request = prompt("the same", model="a", tokens=40)
    assert text(await alice.whole(bob, request)) == text(await bob.whole(alice, request))


async def test_many_answers_share_one_session_and_one_channel(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    answers: dict[int, list[Event]] = {}

    async def ask(number: int) -> None:
        answers[number] = await alice.whole(bob, endless(f"question {number}", model="a", tokens=70))

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(ask, number)
    assert len({text(events) for events in answers.values()}) == 16
    assert all(isinstance(events[-1], Finished) for events in answers.values())
    await settled(alice, bob, 16)
    channels = (await alice.book.accounts()).channels
    assert [(channel.requests, channel.output_tokens) for channel in channels] == [(16, 16 * 70)]


async def test_a_refusal_comes_before_the_body(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    known = bob.offered
    bob.offered = offer(BOB)
    assert alice.asking is not None
    with pytest.raises(PeerRefused) as refused:
        async with alice.asking.ask(bob.peer, prompt(model="a"), known, known.models[0]):
            pass
    assert (refused.value.refusal, refused.value.retry_after_s) == ("draining", 1.0)
    bob.offered = known
    assert isinstance((await alice.whole(bob, prompt(model="a", tokens=3)))[-1], Finished)


async def test_who_leaves_frees_the_slot_and_pays_for_what_came(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    async with alice.ask(bob, endless("a long story", model="a")) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break
    engine = await bob.stable.until_alive("a")

    async def until() -> None:
        while engine.gauge.running or bob.places.held:  # noqa: ASYNC110  the engine tells nobody
            await trio.sleep(0.005)

    with trio.fail_after(5):
        await until()
    spent, _ = await settled(alice, bob)
    assert spent >= 2000


async def test_a_reader_that_stops_stops_its_own_answer_only(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    async with alice.ask(bob, endless("slow", model="a", tokens=900)) as slow:
        held = decoded_tokens(await anext(slow))
        quick = await alice.whole(bob, endless("quick", model="a", tokens=300))
        assert isinstance(quick[-1], Finished)
        async for event in slow:
            held += decoded_tokens(event)
            if isinstance(event, Finished | Failed):
                break
        assert isinstance(event, Finished)
        assert held == event.usage.completion_tokens == 900
    await settled(alice, bob, 2)


async def test_a_failure_of_the_engine_comes_as_it_is(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    events = await alice.whole(bob, prompt("x" * 9000, model="a", tokens=5))
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "context_length_exceeded"


async def test_a_provider_that_is_lost_ends_its_answers(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    async with alice.ask(bob, endless("until the end", model="a")) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                await bob.transport.disconnect(alice.peer)
        assert isinstance(event, Failed)
        assert event.code in ("peer_unreachable", "stream_reset")


async def test_nobody_there_is_said_at_once(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    await bob.transport.close()
    with pytest.raises(Unreachable):
        await alice.whole(bob, prompt(model="a"))


async def test_a_large_request_travels_in_parts(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    events = await alice.whole(bob, prompt("y" * 700_000, model="a", tokens=5))
    assert isinstance(events[-1], Failed)
    assert events[-1].code == "context_length_exceeded"
    assert not alice.violations + bob.violations


async def test_both_directions_are_two_channels(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    await alice.whole(bob, prompt(model="a", tokens=5))
    await bob.whole(alice, prompt(model="a", tokens=5))
    await settled(alice, bob)
    await settled(bob, alice)
    assert sorted(channel.role for channel in (await alice.book.accounts()).channels) == ["consumer", "provider"]


async def test_vectors_come_as_at_home_and_are_paid_for_by_their_tokens(pair: tuple[Party, Party]) -> None:
    alice, bob = pair
    bob.offered = offer(BOB, model_offer("a", kinds=("generate", "embed")))
    request = embedding(*(f"text number {n}, and some more words " * 8 for n in range(40)), (5,) * 5000, model="a")
    there, here = await alice.whole(bob, request), await own(bob, request)
    assert isinstance(there[-1], Finished), there[-1]
    assert vectors(there) == vectors(here)
    assert len(vectors(there)) == 41
    tokens = there[-1].usage.prompt_tokens
    assert tokens > 2 * SLICE
    spent, earned = await settled(alice, bob)
    assert spent == earned == tokens * 10
    assert not alice.violations + bob.violations


async def own(party: Party, request: GenerationRequest) -> list[Event]:
    """What a node's own engine answers."""
    engine = await party.stable.until_alive("a")
    async with engine.generate(request) as events:
        return [event async for event in events]


def vectors(events: Sequence[Event]) -> dict[int, bytes]:
    """Vectors by input."""
    return {event.index: event.vector for event in events if isinstance(event, EmbeddingResult)}
