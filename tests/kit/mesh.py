"""Nodes reduced to what asks and serves: a transport, a book, an engine; alice, bob and carol in one process."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshnode.domain import GenerationRequest, ModelCard, PeerId
from meshnode.engine.pool import open_pool
from meshnode.errors import ModelNotFound
from meshnode.events import Event
from meshnode.identity import Identity
from meshnode.ledger.book import Book
from meshnode.mesh.admission import Limits, Places
from meshnode.mesh.ask import Asking, Desk, open_asking
from meshnode.mesh.charges import Charges
from meshnode.mesh.greet import Self
from meshnode.mesh.local import LocalDispatcher
from meshnode.mesh.serve import Kitchen, Provider, here
from meshnode.net.transport import Transport
from meshnode.observe import Metrics
from meshnode.storage.database import Database, open_inline
from meshnode.wire import messages as m
from meshnode.wire.offer import Offer
from tests.kit.engines import Stable, constant_entropy
from tests.kit.offers import NETWORK, model_offer, offer
from tests.kit.requests import card


class Shelf:
    """A library of one model, ``a``."""

    def resolve(self, name: str | None) -> ModelCard:
        """By name."""
        if name not in (None, "a"):
            raise ModelNotFound(f"no model {name!r}")
        return card("a")


@dataclass
class Party:
    """One node. ``violations`` are what it was told of others; ``offered`` may be changed between requests."""

    identity: Identity
    transport: Transport
    database: Database
    book: Book
    offered: Offer
    stable: Stable
    asking: Asking | None = None
    provider: Provider | None = None
    places: Places = field(default_factory=lambda: Places(Limits(per_peer=64, requests=256)))
    violations: list[tuple[PeerId, str]] = field(default_factory=list)
    charges: Charges = field(default_factory=lambda: Charges(_numbered(), lambda: 1_700_000_000.0))

    @property
    def peer(self) -> PeerId:
        """Its id."""
        return self.identity.peer_id

    def violated(self, peer: PeerId, reason: str) -> None:
        """Take note of who broke the protocol."""
        self.violations.append((peer, reason))

    @asynccontextmanager
    async def ask(self, other: Party, request: GenerationRequest) -> AsyncIterator[AsyncIterator[Event]]:
        """Ask another for its first model."""
        assert self.asking is not None
        async with self.asking.ask(other.peer, request, other.offered, other.offered.models[0]) as events:
            yield events

    async def whole(self, other: Party, request: GenerationRequest) -> list[Event]:
        """All events of one answer."""
        async with self.ask(other, request) as events:
            return [event async for event in events]


def make_self(identity: Identity, max_open: int = 256) -> Self:
    """What a node says of itself; its nonces are numbered."""
    return Self(identity, NETWORK, "test", max_open, _numbered())


@asynccontextmanager
async def open_party(
    identity: Identity,
    transport: Transport,
    *,
    database: Database | None = None,
    step_s: float = 0.01,
    slots: int = 16,
    max_open: int = 256,
) -> AsyncIterator[Party]:
    """A node that asks and serves ``a`` on ``transport``; its books are in memory unless a database is given."""
    stable = Stable(load_s=0.0, step_s=step_s, n_seq_max=slots)
    async with (
        open_inline() as own,
        open_pool(stable.open, metrics=(metrics := Metrics()), entropy=constant_entropy) as pool,
    ):
        books = database or own
        book = Book(books, identity, NETWORK, day=lambda: 20_000, entropy=_numbered())
        party = Party(identity, transport, books, book, offer(identity, model_offer("a")), stable)
        us = make_self(identity, max_open)
        local = LocalDispatcher(Shelf(), pool, metrics, node=identity.peer_id)
        kitchen = Kitchen(us, local, lambda: party.offered, book, party.places, party.violated, here)
        party.provider = Provider(kitchen)
        transport.set_handler(m.PROTOCOL, party.provider.handle)
        async with open_asking(Desk(us, transport, book, party.violated, party.charges)) as asking:
            party.asking = asking
            yield party


def _numbered() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda n: next(numbers).to_bytes(n, "big")
