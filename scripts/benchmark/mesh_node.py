"""A node of the mesh without an API and without a model's weight: libp2p, books and offers are the real ones."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

from benchmark.mesh_engine import open_fixed_rate
from meshnode.config import EngineSettings, NetSettings, ServeSettings, Settings
from meshnode.domain import GenerationRequest, ModelCard, ModelId, RequestId, Sampling, Stopping
from meshnode.engine.pool import PoolLimits, open_pool
from meshnode.errors import ModelNotFound
from meshnode.identity import Identity
from meshnode.mesh.peering import Peering, World, open_peering
from meshnode.net.doorkeeper import Doorkeeper
from meshnode.net.host import Host, open_host
from meshnode.net.kademlia import open_directory
from meshnode.observe import Metrics
from meshnode.storage.database import Database

MANY: Final = 4096
"""Requests at a time: what is measured is not the limits."""
NETWORK: Final = "public"
_LIMITS: Final = PoolLimits(max_loaded=16, max_queued=MANY)
ANY_PORT: Final = ("/ip4/127.0.0.1/tcp/0",)


class BenchNode(NamedTuple):
    """One node."""

    host: Host
    peering: Peering

    @property
    def address(self) -> str:
        """Where it is reached."""
        return self.host.addresses[0]

    def lists(self, model: str) -> bool:
        """Whether a peer is known that serves ``model``."""
        return any(known.id == model for known in self.peering.models())


class Shelf:
    """A library of models that have no file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._cards = [_card(name) for name in names]

    def cards(self) -> tuple[ModelCard, ...]:
        """All of them."""
        return tuple(self._cards)

    def resolve(self, name: str | None) -> ModelCard:
        """By name; the first is the default. Raises ModelNotFound."""
        for card in self._cards:
            if name in (None, card.id):
                return card
        raise ModelNotFound(f"no model {name!r}.")


def request(model: str, number: int, tokens: int) -> GenerationRequest:
    """One that gives ``tokens`` tokens."""
    return GenerationRequest(
        id=RequestId(f"bench-{number}"),
        model=ModelId(model),
        prompt="a prompt",
        sampling=Sampling(temperature=0, seed=1),
        stopping=Stopping(max_tokens=tokens, ignore_eos=True),
    )


@asynccontextmanager
async def open_node(
    database: Database,
    *models: str,
    join: Sequence[str] = (),
    client_only: bool = False,
    nothing_served: bool = False,
    step_s: float = 0.05,
) -> AsyncIterator[BenchNode]:
    """A node that has ``models``, serves them unless told otherwise, and joined ``join``."""
    identity, metrics = Identity(os.urandom(32), os.urandom(32)), Metrics()
    door = Doorkeeper(frozenset, trio.current_time)
    async with (
        open_host(identity, ANY_PORT, admits=door, blocked=door.blocked) as host,
        open_pool(
            partial(open_fixed_rate, step_s=step_s),
            metrics=metrics,
            entropy=partial(random.getrandbits, 64),
            limits=_LIMITS,
        ) as pool,
        open_peering(
            World(
                settings=_settings(join, client_only=client_only, nothing_served=nothing_served),
                identity=identity,
                psk=None,
                transport=host,
                door=door,
                directory=partial(open_directory, host, NETWORK),
                database=database,
                library=Shelf(models),
                pool=pool,
                metrics=metrics,
                software="bench",
                draining=trio.Event(),
                entropy=os.urandom,
                chance=random.random,
                wall_clock=time.time,
            )
        ) as peering,
    ):
        yield BenchNode(host, peering)


def _settings(join: Sequence[str], *, client_only: bool, nothing_served: bool) -> Settings:
    return Settings(
        home=Path("/nowhere"),
        net=NetSettings(join=tuple(join), open=True, network=NETWORK, lan=False),
        serve=ServeSettings(() if nothing_served else ("*",), client_only=client_only, per_peer=MANY, requests=MANY),
        engine=EngineSettings(enabled=not client_only),
    )


def _card(name: str) -> ModelCard:
    return ModelCard(
        id=ModelId(name),
        path=f"/nowhere/{name}.gguf",
        size=1000,
        modified_ns=0,
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        architecture="bench",
        quantisation="f32",
        context_length=32768,
    )
