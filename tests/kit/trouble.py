"""Trouble for two honest nodes: slow disks, clients that leave, roads that break. Drawn from one seeded source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio

from meshnode.domain import GenerationRequest, Stopping
from meshnode.errors import MeshnodeError
from meshnode.events import Failed, Finished
from meshnode.mesh.asker import PeerRefused
from meshnode.net.memory import MemoryNetwork
from meshnode.storage.database import Connection, Database
from tests.kit.mesh import Party
from tests.kit.requests import endless, prompt

T = TypeVar("T")

REQUESTS = 150
"""Of one seed."""


class SlowDisk:
    """A database whose transactions take up to ``most_s``, before and after; once begun they are never cancelled."""

    def __init__(self, database: Database, random: Random, most_s: float) -> None:
        self._database = database
        self._random = random
        self._most_s = most_s

    async def _wait(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self._random.random() * self._most_s)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """As the database, late."""
        await self._wait()
        result = await self._database.read(fn)
        await self._wait()
        return result

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """As the database, late."""
        await self._wait()
        result = await self._database.write(fn)
        await self._wait()
        return result


def any_request(random: Random) -> GenerationRequest:
    """Short, long, too long or large; with and without an end of its own, or a stop string."""
    text = "word " * random.choice([1, 10, 300, 1500, 1700])
    if random.random() < 0.1:
        text = "y" * random.choice([300_000, 1_000_000])
    stop = (random.choice(["a", "ab", "e", "the end", "\n\n", "zzzzzzzz"]),) if random.random() < 0.3 else ()
    most = random.choice([1, 2, 5, 31, 32, 33, 63, 64, 65, 100, 200, None])
    stopping = Stopping(max_tokens=most, ignore_eos=random.random() < 0.5, stop=stop)
    return prompt(text, model="a", stopping=stopping)


async def any_client(random: Random, asking: Party, serving: Party, ends: Counter[str]) -> None:
    """Ask, read at any pace, and leave at any moment; how it ended is counted."""
    try:
        with trio.move_on_after(random.choice([0.0, 0.001, 0.01, 0.1, 1, 5, 1000])):
            await _read(random, asking, serving, ends)
            return
        ends["left"] += 1
    except PeerRefused as error:
        ends[error.refusal] += 1
    except MeshnodeError as error:
        ends[error.code] += 1


async def _read(random: Random, asking: Party, serving: Party, ends: Counter[str]) -> None:
    enough = random.choice([0, 1, 3, 40, 10**9, 10**9])
    async with asking.ask(serving, any_request(random)) as events:
        read = 0
        async for event in events:
            read += 1
            if isinstance(event, Finished | Failed):
                ends[event.code if isinstance(event, Failed) else "ok"] += 1
            if read >= enough:
                return
            if random.random() < 0.02:
                await trio.sleep(random.random())


async def any_road(random: Random, network: MemoryNetwork, one: Party, other: Party) -> None:
    """Cut the road between two now and then, or let it fall silent for a while."""
    while True:
        await trio.sleep(random.expovariate(1 / 8))
        if random.random() < 0.5:
            network.cut(one.peer, other.peer)
        else:
            network.part([one.peer], [other.peer])
            await trio.sleep(random.random() * 4)
            network.heal()


async def live(random: Random, network: MemoryNetwork, alice: Party, bob: Party, *, cuts: bool) -> Counter[str]:
    """All requests of one seed, in both directions; how they ended."""
    ends: Counter[str] = Counter()
    async with trio.open_nursery() as trouble:
        if cuts:
            trouble.start_soon(any_road, random, network, alice, bob)
        async with trio.open_nursery() as clients:
            for _ in range(REQUESTS):
                await trio.sleep(random.expovariate(1 / random.choice([0.005, 0.05, 0.2])))
                asking, serving = (alice, bob) if random.random() < 0.6 else (bob, alice)
                clients.start_soon(any_client, random, asking, serving, ends)
        trouble.cancel_scope.cancel()
    network.heal()
    return ends


async def balanced(consumer: Party, provider: Party) -> bool:
    """Whether both books say the same, after a last request whose greeting swaps the newest receipts."""
    try:
        await consumer.whole(provider, endless("hi", model="a", tokens=3))
    except MeshnodeError:
        await consumer.whole(provider, endless("hi", model="a", tokens=3))
    await trio.sleep(10)
    spent = await consumer.book.totals("consumer", provider.identity.ledger_public)
    return spent == await provider.book.totals("provider", consumer.identity.ledger_public)
