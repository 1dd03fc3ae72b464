"""The two who settle, and what they agree on: keys, a model, its price; and a book that notes what it acknowledges."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from harness.diary import Confirmed, Diary, Marked, Met, Paying, Row, Signed, Stored, now
from meshnode.domain import ModelCard, ModelId, PeerId
from meshnode.identity import Identity, network_tag
from meshnode.ledger.accounts import ChannelView
from meshnode.ledger.book import Book, ConsumerChannel, ProviderChannel, Totals
from meshnode.mesh.greet import Self
from meshnode.storage.database import Database
from meshnode.wire.fields import Prices
from meshnode.wire.offer import ModelOffer, Offer
from meshnode.wire.receipt import SignedReceipt, consumer_payload, content

NETWORK: Final = network_tag("settlement", None)
PRICES: Final = Prices(input_uc=10, cached_uc=2, output_uc=80, request_uc=2000)
CARD: Final = ModelCard(
    id=ModelId("bytes"),
    path="/models/bytes.gguf",
    size=1000,
    modified_ns=0,
    sha256="bytes",
    architecture="fake",
    quantisation="f32",
    context_length=32768,
)
DAY: Final = 20_000
MOST_OPEN: Final = 256


class Watched(Identity):
    """An identity that notes every receipt it signs as a consumer, whatever comes of it."""

    def __init__(self, name: str, diary: Diary | None = None) -> None:
        super().__init__(name.encode().ljust(32, b"p")[:32], name.encode().ljust(32, b"l")[:32])
        self._diary = diary

    def sign_for_ledger(self, message: bytes) -> bytes:
        """Note it, then sign."""
        prefix = consumer_payload(b"")
        if self._diary is not None and message.startswith(prefix):
            self._diary.note(Signed(now(), message[len(prefix) :]))
        return super().sign_for_ledger(message)


CONSUMER: Final = Watched("consumer")
PROVIDER: Final = Watched("provider")


class Place(NamedTuple):
    """Where a process lives: its ``home`` outlives it, the diary of a run and the provider's address lie beside it."""

    folder: Path
    role: str
    run: int

    @property
    def database(self) -> Path:
        """Its database."""
        return self.folder / self.role / "meshnode.db"

    @property
    def diary(self) -> Path:
        """What this run noted."""
        return self.folder / f"{self.role}.{self.run:05}.jsonl"

    @property
    def doom(self) -> Path:
        """Says where in its code to die."""
        return self.folder / f"{self.role}.doom"

    @property
    def log(self) -> Path:
        """Its last words, of all runs."""
        return self.folder / f"{self.role}.log"

    @property
    def address(self) -> Path:
        """Holds the address where the provider listens now."""
        return self.folder / "address"


def self_of(identity: Identity) -> Self:
    """What a process says of itself."""
    return Self(identity, NETWORK, "kill_settlement", MOST_OPEN, os.urandom)


def offer() -> Offer:
    """What the provider offers; both know it without asking."""
    model = ModelOffer(
        id=CARD.id,
        weights=bytes(32),
        template=b"",
        quantisation="f32",
        context=CARD.context_length,
        kv_type="f16",
        modalities=("text",),
        features=(),
        kinds=("generate",),
        prices=PRICES,
        decode_tps=100.0,
        first_token_ms=0.0,
        slots=16,
        free=16,
        queue=0,
        state="ready",
        parameters=1,
        family="fake",
        license="",
    )
    return Offer(
        network=NETWORK,
        peer=PROVIDER.peer_id,
        ledger=PROVIDER.ledger_public,
        issued_ms=1_700_000_000_000,
        ttl_s=120,
        addresses=(),
        models=(model,),
        privacy=("standard",),
        max_body=8 << 20,
        region="",
        software="kill_settlement",
    )


# --- a book that says what it did -----------------------------------------------------------------


class WatchedBook(Book):
    """A book that notes each acknowledgement after it, and before anything follows from it.

    ``marks`` gives how far requests are paid, where that changed since it was asked last.
    """

    def __init__(
        self, database: Database, identity: Identity, diary: Diary, marks: Callable[[], Sequence[Marked]] = tuple
    ) -> None:
        super().__init__(database, identity, NETWORK, day=lambda: DAY, entropy=os.urandom)
        self._diary = diary
        self._marks = marks

    async def consume(self, provider: bytes, peer: PeerId, theirs: Sequence[SignedReceipt]) -> ConsumerChannel:
        """As the book does."""
        channel = await super().consume(provider, peer, theirs)
        await self._met()
        return _Paying(channel, self._diary, self._marks)

    async def provide(self, consumer: bytes, peer: PeerId, theirs: Sequence[SignedReceipt]) -> ProviderChannel:
        """As the book does."""
        channel = await super().provide(consumer, peer, theirs)
        await self._met()
        return _Taking(channel, self._diary)

    async def _met(self) -> None:
        channels = (await self.accounts()).channels
        self._diary.note(Met(now(), tuple(_row(channel) for channel in channels)))


class _Paying(ConsumerChannel):
    """A consumer's channel that notes what it acknowledges."""

    def __init__(self, inner: ConsumerChannel, diary: Diary, marks: Callable[[], Sequence[Marked]]) -> None:
        self._inner = inner
        self._diary = diary
        self._marks = marks

    async def pay(self, more: Totals) -> SignedReceipt:
        """As the channel does."""
        self._diary.note(Paying(now(), tuple(self._marks())))
        signed = await self._inner.pay(more)
        self._diary.note(_stored(signed))
        return signed

    async def confirm(self, signed: SignedReceipt) -> None:
        """As the channel does."""
        await self._inner.confirm(signed)
        self._diary.note(_confirmed(signed))


class _Taking(ProviderChannel):
    """A provider's channel that notes what it acknowledges."""

    def __init__(self, inner: ProviderChannel, diary: Diary) -> None:
        self._inner = inner
        self._diary = diary

    async def take(self, signed: SignedReceipt, more: Totals) -> None:
        """As the channel does."""
        await self._inner.take(signed, more)
        self._diary.note(_stored(signed))

    async def countersign(self) -> SignedReceipt | None:
        """As the channel does."""
        signed = await self._inner.countersign()
        if signed is not None:
            self._diary.note(_confirmed(signed))
        return signed


def _stored(signed: SignedReceipt) -> Stored:
    receipt = content(signed)
    total = Totals.of(receipt)
    return Stored(now(), receipt.chan, receipt.seq, total.uc, total.prompt, total.output, total.requests)


def _confirmed(signed: SignedReceipt) -> Confirmed:
    receipt = content(signed)
    return Confirmed(now(), receipt.chan, receipt.seq, receipt.cum_uc)


def _row(channel: ChannelView) -> Row:
    return Row(
        channel.chan,
        channel.seq,
        channel.total_uc,
        channel.prompt_tokens,
        channel.output_tokens,
        channel.requests,
        channel.confirmed_uc,
    )
