"""Whole nodes of the mesh in one process on a virtual clock: everything but libp2p, SQLite's threads and llama.cpp."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from meshnode.config import EngineSettings, NetSettings, ServeSettings, Settings
from meshnode.domain import GenerationRequest, ModelCard
from meshnode.engine.pool import open_pool
from meshnode.errors import ModelNotFound
from meshnode.events import Event
from meshnode.identity import Identity
from meshnode.mesh.answer import Route
from meshnode.mesh.peering import Peering, World, open_peering
from meshnode.net.doorkeeper import Doorkeeper
from meshnode.net.memory import MemoryHost, MemoryNetwork
from meshnode.net.memory_directory import Board
from meshnode.observe import Metrics
from meshnode.storage.database import Database, open_inline
from tests.kit.engines import Stable, constant_entropy
from tests.kit.requests import card
from tests.kit.streams import ANY_PORT


class Shelf:
    """A library that holds what it was given; the first is the default."""

    def __init__(self, names: Sequence[str]) -> None:
        self._cards = tuple(card(name) for name in names)

    def cards(self) -> tuple[ModelCard, ...]:
        """All of them."""
        return self._cards

    def resolve(self, name: str | None) -> ModelCard:
        """By id, or without quantisation."""
        found = [one for one in self._cards if name in (None, one.id, one.id.partition(":")[0])]
        if not found:
            raise ModelNotFound(f"no model {name!r}.")
        return found[0]


class Node:
    """One node."""

    def __init__(self, host: MemoryHost, peering: Peering, stable: Stable, draining: trio.Event) -> None:
        self.host = host
        self.peering = peering
        self.stable = stable
        self.draining = draining

    @property
    def address(self) -> str:
        """Where it is reached."""
        return self.host.addresses[0]

    async def ask(self, request: GenerationRequest) -> tuple[list[Event], Route]:
        """All events of one request, and the road they came."""
        async with self.peering.dispatcher.open(request) as answer:
            return [event async for event in answer], answer.route

    def joined(self) -> bool:
        """Whether it belongs to a mesh."""
        return self.peering.joined

    def models(self) -> dict[str, int]:
        """Models that peers serve, and how many do."""
        return {model.id: len(model.providers) for model in self.peering.models()}


class Town:
    """A network and a directory that nodes live in."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self._board = Board()

    @asynccontextmanager
    async def open_node(
        self,
        identity: Identity,
        *models: str,
        join: Sequence[str] = (),
        client_only: bool = False,
        is_open: bool = True,
        network: str = "public",
        psk: bytes | None = None,
        database: Database | None = None,
    ) -> AsyncIterator[Node]:
        """A node that serves ``models`` and joined ``join``."""
        settings = _settings(join, client_only=client_only, is_open=is_open, network=network)
        stable, door, draining = Stable(load_s=0.5), Doorkeeper(frozenset, trio.current_time), trio.Event()
        async with (
            open_inline() as own,
            self.network.open_host(identity, ANY_PORT, psk=psk, admits=door, blocked=door.blocked) as host,
            open_pool(stable.open, metrics=(metrics := Metrics()), entropy=constant_entropy) as pool,
            open_peering(
                World(
                    settings=settings,
                    identity=identity,
                    psk=psk,
                    transport=host,
                    door=door,
                    directory=partial(self._board.open_directory, host, network),
                    database=database or own,
                    library=Shelf(models),
                    pool=pool,
                    metrics=metrics,
                    software="test",
                    draining=draining,
                    entropy=_mixed(),
                    chance=lambda: 0.5,
                    wall_clock=lambda: 1_700_000_000 + trio.current_time(),
                )
            ) as peering,
        ):
            yield Node(host, peering, stable, draining)


def _settings(join: Sequence[str], *, client_only: bool, is_open: bool, network: str) -> Settings:
    return Settings(
        home=Path("/nowhere"),
        net=NetSettings(join=tuple(join), open=is_open, network=network, lan=False),
        serve=ServeSettings(client_only=client_only),
        engine=EngineSettings(enabled=not client_only),
    )


def _mixed() -> Callable[[int], bytes]:
    """Bytes that look random, the same in every run."""
    numbers = itertools.count(1)
    return lambda n: (next(numbers) * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big").rjust(n, b"e")
