"""A caller before a provider made of puppets: alice asks, bob does what the test says. On a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshnode.domain import GenerationRequest
from meshnode.events import Event, Started, TextDelta
from meshnode.net.memory import MemoryNetwork, open_network
from meshnode.net.transport import Transport
from meshnode.wire import messages as m
from tests.kit.mesh import Party, open_party
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB
from tests.kit.puppet import Answering, Puppet
from tests.kit.requests import endless
from tests.kit.streams import ANY_PORT

OFFER = offer(BOB, model_offer("a"))
REQUEST = endless("hello", model="a", tokens=100)


class Scene:
    """Alice, and a provider that does what the test says."""

    def __init__(self, alice: Party, bob: Answering, network: MemoryNetwork, there: Transport) -> None:
        self.alice = alice
        self.bob = bob
        self.network = network
        self.there = there

    @asynccontextmanager
    async def asking(self, request: GenerationRequest = REQUEST) -> AsyncIterator[AsyncIterator[Event]]:
        """One request to bob."""
        assert self.alice.asking is not None
        async with self.alice.asking.ask(BOB.peer_id, request, OFFER, OFFER.models[0]) as events:
            yield events

    async def whole(self, request: GenerationRequest = REQUEST) -> list[Event]:
        """All events of one request."""
        async with self.asking(request) as events:
            return [event async for event in events]


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    """Alice, connected to bob."""
    async with (
        open_network() as network,
        network.open_host(ALICE, ANY_PORT) as alice,
        network.open_host(BOB, ANY_PORT) as bob,
        open_party(ALICE, alice) as party,
    ):
        answering = Answering(BOB, bob)
        await alice.connect(bob.addresses[0])
        yield Scene(party, answering, network, bob)
        answering.done.set()


async def accepting(scene: Scene) -> tuple[Puppet, m.Ask]:
    """Bob's session, when he has accepted the first ask and has its body."""
    puppet = await scene.bob.session()
    ask = await puppet.hear()
    assert isinstance(ask, m.Ask)
    await puppet.say(m.Accept(ask.number))
    assert isinstance(await puppet.hear(), m.Body)
    return puppet, ask


async def telling(scene: Scene, *events: Event) -> Puppet:
    """Bob says these of request 1."""
    puppet, ask = await accepting(scene)
    await puppet.say(*(m.Events(((ask.number, event),)) for event in events))
    return puppet


def words(count: int) -> tuple[Event, ...]:
    """The beginning of an honest answer."""
    return (Started(6), *(TextDelta("word ", 0, (7,)) for _ in range(count)))
