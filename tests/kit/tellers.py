"""Nodes that tell what they offer and hear of others, with a shelf of models instead of a library and a pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import trio

from meshnode.domain import ModelCard, ModelId, PeerId
from meshnode.engine.pipe import EngineInfo, Gauge
from meshnode.engine.slot import ModelState
from meshnode.identity import Identity, public_key_of, verify
from meshnode.mesh.announce import Announcer
from meshnode.mesh.offers import OfferBook
from meshnode.mesh.tidings import Tidings
from meshnode.net.memory import MemoryHost, MemoryNetwork
from meshnode.net.transport import Transport
from meshnode.wire.fields import Prices
from meshnode.wire.offer import Offer, Passed, SignedOffer, encode_offer, offer_payload
from tests.kit.offers import NETWORK, PRICES
from tests.kit.peers import identity

WALL_S = 1_700_000_000.0
"""The wall clock when trio's clock says 0."""
INFO = EngineInfo(
    n_ctx=4096, n_ctx_train=8192, n_seq_max=4, n_vocab=100, n_layers=2, gpu_layers=0, devices=(), used_devices=(),
    backends=(), system_info="", threads=1, threads_batch=1, n_params=1000, size_bytes=1000, has_template=True,
    template_sha256="cd" * 32, decode_tps=50.0,
)  # fmt: skip
"""An engine that is loaded."""


def card(name: str, **changes: object) -> ModelCard:
    """A model's file."""
    plain = ModelCard(
        id=ModelId(name), path=f"{name}.gguf", size=1000, modified_ns=1, sha256="ab" * 32, architecture="llama",
        quantisation="q8_0", context_length=8192, parameters=1000, family="llama", license="mit",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def signed(who: Identity, offer: Offer, *, age_ms: int = 0) -> Passed:
    """An offer with the signature of ``who``."""
    body = encode_offer(offer)
    signature = who.sign_as_peer(offer_payload(body))
    return Passed(offer=SignedOffer(body=body, signature=signature), age_ms=age_ms)


def book_of(who: Identity) -> OfferBook:
    """What ``who`` knows: nothing yet."""
    return OfferBook(who.peer_id, NETWORK, verify, public_key_of)


class Shelf:
    """The models of a node, to be changed at will."""

    def __init__(self, *names: str) -> None:
        self.cards = [card(name) for name in names]
        self.states: dict[str, ModelState] = {}
        self.private: set[str] = set()
        self.prices: Prices = PRICES
        self.draining = False

    def put(self, name: str) -> None:
        """One more model."""
        self.cards.append(card(name))

    def take(self, name: str) -> None:
        """Without this model."""
        self.cards = [each for each in self.cards if each.id != name]

    def state(self, model: ModelId) -> ModelState:
        """As set, or not loaded."""
        return self.states.get(model, ModelState(id=model))

    def load(self, name: str, *, running: int = 0, waiting: int = 0) -> None:
        """The model is loaded, and so busy."""
        gauge = Gauge(running=running, waiting=waiting)
        self.states[name] = ModelState(id=ModelId(name), state="ready", info=INFO, gauge=gauge)


def wall_clock() -> float:
    """Seconds since 1970, as trio's clock goes."""
    return WALL_S + trio.current_time()


def announcer_of(
    who: Identity,
    shelf: Shelf,
    addresses: Callable[[], tuple[str, ...]] = tuple,
    *,
    network: bytes = NETWORK,
    clock: Callable[[], float] = wall_clock,
) -> Announcer:
    """Announces what is on a shelf."""
    return Announcer(
        who,
        network,
        cards=lambda: shelf.cards,
        state=shelf.state,
        served=lambda model: model not in shelf.private,
        prices=lambda _: shelf.prices,
        context_of=lambda each: min(each.context_length, 2048),
        addresses=addresses,
        draining=lambda: shelf.draining,
        wall_clock=clock,
        slots=16,
        max_body=1 << 20,
        software="test",
    )


class Teller:
    """One node. ``violations`` are the peers that broke the protocol, and how."""

    def __init__(self, who: Identity, host: Transport, network: bytes) -> None:
        self.host = host
        self.shelf = Shelf()
        self.violations: list[tuple[PeerId, str]] = []
        self.book = OfferBook(who.peer_id, network, verify, public_key_of)
        self.announcer = announcer_of(who, self.shelf, lambda: host.addresses, network=network)
        self.changed = trio.Event()
        self.book.listen(self._stir)
        self.tidings = Tidings(
            host,
            self.book,
            self.announcer,
            network,
            wall_clock=wall_clock,
            violated=self._violated,
            chance=lambda: 1.0,
        )

    @property
    def known(self) -> dict[PeerId, tuple[str, ...]]:
        """The models of each peer that offers something, whether or not that is a model."""
        offers = self.book.offers(trio.current_time())
        return {PeerId(offer.peer): tuple(model.id for model in offer.models) for offer in offers}

    async def until_known(self, peer: PeerId, *models: str) -> None:
        """Wait until ``peer`` is known to offer exactly these."""
        while self.known.get(peer) != models:
            await self.changed.wait()

    async def until_unknown(self, peer: PeerId) -> None:
        """Wait until nothing is known of ``peer``."""
        while peer in self.known:
            await self.changed.wait()

    async def until_violated(self) -> tuple[PeerId, str]:
        """Wait until somebody broke the protocol; that was the last."""
        while not self.violations:
            await self.changed.wait()
        return self.violations[-1]

    def _violated(self, peer: PeerId, reason: str) -> None:
        self.violations.append((peer, reason))
        self._stir()

    def _stir(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


@asynccontextmanager
async def open_teller(who: Identity, host: Transport, *models: str, network: bytes = NETWORK) -> AsyncIterator[Teller]:
    """A node that tells and hears on ``host`` as long as the block lasts."""
    teller = Teller(who, host, network)
    for name in models:
        teller.shelf.put(name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.announcer.run)
        nursery.start_soon(teller.tidings.run)
        yield teller
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def teller(network: MemoryNetwork, who: Identity, *models: str) -> AsyncIterator[Teller]:
    """A node in memory that listens somewhere."""
    async with network.open_host(who, ("/ip4/127.0.0.1/tcp/0",)) as host, open_teller(who, host, *models) as node:
        yield node


@asynccontextmanager
async def full_mesh(network: MemoryNetwork, size: int) -> AsyncIterator[list[Teller]]:
    """So many nodes, each with a model of its own and connected to all others."""
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(teller(network, identity(f"peer {number}"), f"model-{number}:q8_0"))
            for number in range(size)
        ]
        for number, node in enumerate(nodes):
            for other in nodes[:number]:
                await node.host.connect(other.host.addresses[0])
        yield nodes


async def connected(one: MemoryHost, other: Teller) -> None:
    """Connect ``one`` to a node."""
    await one.connect(other.host.addresses[0])
