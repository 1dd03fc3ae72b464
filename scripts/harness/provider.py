"""The provider's process: libp2p on loopback, a database, an engine without a model, and all that serves in between."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import trio

from harness.diary import Accused, Delivered, Diary, Marked, now
from harness.parties import CARD, Place, Watched, WatchedBook, offer, self_of
from meshnode.domain import GenerationRequest, ModelCard, ModelId, PeerId
from meshnode.engine.fake import FakeBackend
from meshnode.engine.gate import Gate
from meshnode.engine.inline import InlineEngine, open_inline
from meshnode.engine.pool import Pool, open_pool
from meshnode.engine.slot import ModelState
from meshnode.events import Event
from meshnode.ledger.meter import Meter
from meshnode.mesh.admission import Limits, Places
from meshnode.mesh.local import LocalDispatcher
from meshnode.mesh.serve import Kitchen, Provider
from meshnode.net.host import open_host
from meshnode.observe import Metrics
from meshnode.storage.database import open_threaded
from meshnode.wire import messages as m

STEP_S: Final = 0.001
SLOTS: Final = 16


async def provide(place: Place) -> None:
    """Serve until cancelled."""
    diary = Diary(place.diary, place.doom)
    identity = Watched("provider")
    async with (
        open_threaded(place.database) as database,
        open_pool(_open_engine, metrics=(metrics := Metrics()), entropy=_entropy) as pool,
        open_host(identity, ["/ip4/127.0.0.1/tcp/0"]) as host,
    ):

        def accuse(_: PeerId, reason: str) -> None:
            diary.note(Accused(now(), reason))

        local = LocalDispatcher(_Shelf(), _Watching(pool, diary), metrics, node=identity.peer_id)
        places = Places(Limits(per_peer=64, requests=256))
        kitchen = Kitchen(self_of(identity), local, offer, WatchedBook(database, identity, diary), places, accuse)
        host.set_handler(m.PROTOCOL, Provider(kitchen).handle)
        fresh = place.address.with_suffix(".new")
        fresh.write_text(host.addresses[0])
        fresh.replace(place.address)
        await trio.sleep_forever()


class _Shelf:
    """A library of one model."""

    def resolve(self, name: str | None) -> ModelCard:
        """There is only one."""
        return CARD


class _Watching:
    """A pool whose engines' events are noted before anybody else sees them: what was computed, request by request."""

    def __init__(self, pool: Pool, diary: Diary) -> None:
        self._pool = pool
        self._diary = diary

    @property
    def draining(self) -> bool:
        """As the pool."""
        return self._pool.draining

    def state(self, model: ModelId) -> ModelState:
        """As the pool."""
        return self._pool.state(model)

    @asynccontextmanager
    async def generate(
        self, request: GenerationRequest, card: ModelCard, gate: Gate | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """As the pool."""
        async with self._pool.generate(request, card, gate) as events:
            yield _noted(events, request.id.partition("/")[2], self._diary)


async def _noted(events: AsyncIterator[Event], request: str, diary: Diary) -> AsyncIterator[Event]:
    meter, before = Meter(), Marked(request, 0, 0, 0)
    async for event in events:
        meter.take(event)
        mark = Marked(request, meter.prompt, meter.cached, meter.output)
        if mark != before:
            diary.note(Delivered(now(), mark))
            before = mark
        yield event


@asynccontextmanager
async def _open_engine(_: ModelCard, progress: Callable[[float], None]) -> AsyncIterator[InlineEngine]:
    progress(1.0)
    backend = FakeBackend(n_ctx=SLOTS * CARD.context_length, n_seq_max=SLOTS)
    async with open_inline(backend, entropy=_entropy, now=lambda: datetime.now(UTC), step_s=STEP_S) as engine:
        yield engine


def _entropy() -> int:
    return int.from_bytes(os.urandom(8), "big")
