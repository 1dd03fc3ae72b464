"""A provider before callers made of puppets: bob serves, alice and carol do what the test says. On a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshnode.events import Event, Failed, Finished
from meshnode.net.memory import open_network
from meshnode.net.transport import Transport
from meshnode.wire import messages as m
from tests.kit.mesh import Party, open_party
from tests.kit.offers import terms
from tests.kit.peers import ALICE, BOB, CAROL
from tests.kit.puppet import Puppet
from tests.kit.requests import endless
from tests.kit.streams import ANY_PORT

REQUEST = endless("hello", model="a", tokens=300)


class Scene:
    """Bob, who serves, and the transport that alice reaches him by."""

    def __init__(self, alice: Transport, bob: Party, carol: Transport) -> None:
        self.alice = alice
        self.bob = bob
        self.carol = carol


@asynccontextmanager
async def open_serving() -> AsyncIterator[Scene]:
    """Bob serves; alice and carol are connected to him."""
    async with (
        open_network() as network,
        network.open_host(ALICE, ANY_PORT) as alice,
        network.open_host(BOB, ANY_PORT) as bob,
        network.open_host(CAROL, ANY_PORT) as carol,
        open_party(BOB, bob) as party,
    ):
        for host in (alice, carol):
            await host.connect(bob.addresses[0])
        yield Scene(alice, party, carol)


async def gather(puppet: Puppet, until: Callable[[Event], bool]) -> list[Event]:
    """Events of request 1 up to one that is enough."""
    found: list[Event] = []
    while True:
        message = await puppet.hear()
        if isinstance(message, m.Events):
            for _, event in message.items:
                found.append(event)
                if until(event):
                    return found


def closes(event: Event) -> bool:
    """Whether it is the last."""
    return isinstance(event, Finished | Failed)


async def begun(puppet: Puppet, number: int = 1) -> None:
    """Greet, ask, and send the body."""
    if number == 1:
        await puppet.greet()
    await puppet.say(puppet.ask(number, terms(BOB, REQUEST)))
    assert await puppet.hear() == m.Accept(number)
    await puppet.say(puppet.body(number, REQUEST))
