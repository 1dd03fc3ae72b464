"""Receipts between Alice, who is served, and Bob, who serves her; books to keep them in, and a disk that fills."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from meshnode.errors import DiskFull
from meshnode.identity import Identity, network_tag
from meshnode.ledger.book import Book, ConsumerChannel, ProviderChannel, Totals
from meshnode.storage.database import Connection, Database, open_inline, open_threaded
from meshnode.wire.canonical import encode
from meshnode.wire.receipt import (
    NO_PREVIOUS,
    Receipt,
    SignedReceipt,
    consumer_payload,
    provider_payload,
)
from tests.kit.peers import ALICE, BOB

T = TypeVar("T")
NETWORK = network_tag("test", None)
TODAY = 20_000
C, P = ALICE.ledger_public, BOB.ledger_public
SOME = Totals(uc=1000, prompt=10, output=32, requests=1)
"""One tick's worth."""


def book(database: Database, who: Identity, *, day: int = TODAY, seed: int = 0) -> Book:
    """A book as a run of ``who`` has it; its clock says ``day``."""
    return Book(database, who, NETWORK, day=lambda: day, entropy=random.Random(seed).randbytes)


def receipt(seq: int = 1, totals: Totals = SOME, **changes: float | bytes) -> Receipt:
    """A receipt of Alice's for Bob on channel 7."""
    fields: dict[str, float | bytes] = {
        "network": NETWORK,
        "consumer": C,
        "provider": P,
        "chan": 7,
        "seq": seq,
        "cum_uc": totals.uc,
        "cum_in": totals.prompt,
        "cum_out": totals.output,
        "n_req": totals.requests,
        "day": TODAY,
        "prev": NO_PREVIOUS,
        **changes,
    }
    return Receipt(**fields)  # type: ignore[arg-type]  # some tests want what is not allowed


def times(n: int, more: Totals = SOME) -> Totals:
    """``more``, so many times."""
    return Totals(uc=n * more.uc, prompt=n * more.prompt, output=n * more.output, requests=n * more.requests)


def tick(of: Receipt, consumer: Identity = ALICE) -> SignedReceipt:
    """Signed by its consumer."""
    return sealed(encode(of), consumer)


def sealed(body: bytes, consumer: Identity = ALICE) -> SignedReceipt:
    """Any bytes, signed by a consumer."""
    return SignedReceipt(body, consumer.sign_for_ledger(consumer_payload(body)))


def countersigned(signed: SignedReceipt, provider: Identity = BOB) -> SignedReceipt:
    """Signed by its provider too."""
    signature = provider.sign_for_ledger(provider_payload(signed.body, signed.sig_c))
    return SignedReceipt(signed.body, signed.sig_c, signature)


class Recorded(Identity):
    """An identity that remembers every body it signed as a consumer, whatever came of it."""

    def __init__(self, who: Identity) -> None:
        super().__init__(who.peer_seed, who.ledger_seed)
        self.signed: list[bytes] = []

    def sign_for_ledger(self, message: bytes) -> bytes:
        """Sign and remember."""
        self.signed.append(message.removeprefix(consumer_payload(b"")))
        return super().sign_for_ledger(message)


class Filling:
    """A database whose disk is full while ``full`` is set: whatever a write did, its commit fails."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.full = False

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """As the database behind."""
        return await self._database.read(fn)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """As the database behind, but on a full disk."""

        def write(connection: Connection) -> T:
            result = fn(connection)
            if self.full:
                raise DiskFull("no room.")
            return result

        return await self._database.write(write)


def dump(connection: Connection) -> list[tuple[object, ...]]:
    """Every row of every channel: what a backup holds."""
    return connection.execute("SELECT * FROM channel ORDER BY id").fetchall()


def load(rows: list[tuple[object, ...]]) -> Callable[[Connection], None]:
    """Put a :func:`dump` into an empty database."""

    def insert(connection: Connection) -> None:
        for row in rows:
            connection.execute(f"INSERT INTO channel VALUES ({', '.join('?' * len(row))})", row)

    return insert


class Two(NamedTuple):
    """Alice's and Bob's databases and books, and the channel between them as they met first."""

    alices: Filling
    bobs: Filling
    alice: Book
    bob: Book
    pays: ConsumerChannel
    takes: ProviderChannel


@asynccontextmanager
async def meeting(kind: str, folder: Path) -> AsyncIterator[Two]:
    """Alice and Bob with databases of one kind: ``threaded`` in files, or ``inline`` in memory."""

    def opened(who: str) -> AbstractAsyncContextManager[Database]:
        return open_threaded(folder / f"{who}.db") if kind == "threaded" else open_inline()

    async with opened("alice") as hers, opened("bob") as his:
        alices, bobs = Filling(hers), Filling(his)
        alice, bob = book(alices, ALICE), book(bobs, BOB, seed=1)
        pays = await alice.consume(P, BOB.peer_id, ())
        takes = await bob.provide(C, ALICE.peer_id, ())
        yield Two(alices, bobs, alice, bob, pays, takes)


async def spent(keeper: Book) -> tuple[int, int]:
    """What an owner is shown: µc spent, and how much of that is not confirmed."""
    view = await keeper.accounts()
    return view.spent, view.spent_unconfirmed


async def earned(keeper: Book) -> tuple[int, int]:
    """What an owner is shown: µc earned, and how much of that is not confirmed."""
    view = await keeper.accounts()
    return view.earned, view.earned_unconfirmed
