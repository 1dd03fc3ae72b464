"""The book of receipts: what was signed is on the disk before it is sent, and only the newest of a channel counts.

A consumer signs with each tick what it owes in all; a provider stores that and countersigns now and then. Whoever opens
a session first shows the other its newest receipts (:meth:`Book.newest`), and takes what the other shows
(:meth:`Book.consume`, :meth:`Book.provide`): so a node learns what it signed or was promised and has forgotten.

A node signs only on channels that it opened itself since it started. One restored from a backup, or run twice from a
copied disk, cannot know which receipts it signed after the copy was made, and a provider may keep them back; on a new
channel it cannot contradict them. What stands on the older channels goes on to count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from meshnode.domain import PeerId
from meshnode.errors import InternalFault, ProtocolViolation
from meshnode.identity import Identity, verify
from meshnode.ledger import channel as rows
from meshnode.ledger.accounts import CreditsView, credits_of
from meshnode.ledger.channel import Channel, Pair, Role
from meshnode.ledger.channel import Totals as Totals  # for those who use the book
from meshnode.storage.database import Connection, Database
from meshnode.wire.canonical import encode
from meshnode.wire.fields import UINT
from meshnode.wire.receipt import (
    NO_PREVIOUS,
    Receipt,
    SignedReceipt,
    checked,
    consumer_payload,
    content,
    digest,
    provider_payload,
    supersedes,
)

SHOWN: Final = 16
"""Receipts that are shown when a session opens, at most."""
ALWAYS_SHOWN: Final = 4
"""Channels, latest first, whose receipts are always among them; the others take turns."""
MOST_UNSIGNED_UC: Final = 10_000_000_000
"""How far beyond the newest we know a consumer's receipt without our signature is believed when a session opens.

Ten thousand credits are more than is delivered between two countersignatures. It only bounds how wrong the figures can
get that our owner is shown: such a receipt can bind nobody but the consumer that signed it.
"""
NEW_UNSIGNED: Final = 2
"""Channels unknown and never signed by us that are taken up each time a session opens: making them costs nothing."""
_LAST_DAY: Final = (1 << 32) - 1

Checked = tuple[SignedReceipt, Receipt]


class Signer(NamedTuple):
    """What signing takes. ``day`` is days since 1970 by our clock, ``entropy`` gives that many random bytes.

    ``last`` has, by the provider's key, the channel that this run opened as a consumer and the number it signed last on
    it. It is not signed on unless the row says the same.
    """

    database: Database
    identity: Identity
    network: bytes
    day: Callable[[], int]
    entropy: Callable[[int], bytes]
    last: dict[bytes, tuple[int, int]]


class Book:
    """All channels of this node. One for each run of the node: see the module."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        network: bytes,
        *,
        day: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._signer = Signer(database, identity, network, day, entropy, {})

    async def newest(self, role: Role, key: bytes) -> tuple[SignedReceipt, ...]:
        """What to show the other: of the channels with its ledger key, the newest receipts, and those both signed.

        Of the channel in use first, then of those opened latest; when not all fit, the older ones take turns.
        """
        pair = self._pair(role, key)
        turn = int.from_bytes(self._signer.entropy(4), "big")

        def select(connection: Connection) -> list[SignedReceipt]:
            receipts: list[SignedReceipt] = []
            for chan in self._to_show(rows.numbers(connection, pair), key, turn):
                found = rows.find(connection, pair, chan)
                receipts += found.receipts if found is not None else ()
            return receipts

        return tuple(await self._signer.database.read(select))[:SHOWN]

    async def consume(self, provider: bytes, peer: PeerId, theirs: Sequence[SignedReceipt]) -> ConsumerChannel:
        """Where to pay ``provider``, a ledger key that ``peer`` has proved. ``theirs`` is what it showed.

        What we signed and no longer knew is kept. Raises ProtocolViolation, and changes nothing, when one of these is
        not a receipt of ours to this provider; and what the database raises.
        """
        pair = self._pair("consumer", provider)
        signer = self._signer
        shown = _checked(signer, pair, theirs)

        def adopt(connection: Connection) -> Channel | None:
            for signed, receipt in reversed(shown):
                rows.store(connection, "consumer", signed, receipt, peer)
            rows.met(connection, pair, peer)
            return _in_use(connection, signer, pair)

        return ConsumerChannel(signer, pair, peer, await signer.database.write(adopt))

    async def provide(self, consumer: bytes, peer: PeerId, theirs: Sequence[SignedReceipt]) -> ProviderChannel:
        """Where ``consumer``, a ledger key that ``peer`` has proved, pays us. ``theirs`` is what it showed.

        What it signed and we did not know is kept. End an older session with the same key before. Raises
        ProtocolViolation, and changes nothing, when one of these is not a receipt of its to us, or contradicts one;
        and what the database raises.
        """
        pair = self._pair("provider", consumer)
        shown = _checked(self._signer, pair, theirs)
        # The latest is opened last, as it was there; but first what we signed, which says how far to believe the rest.
        shown.reverse()
        shown.sort(key=lambda each: not each[0].confirmed)

        def adopt(connection: Connection) -> None:
            unsigned = [receipt.chan for signed, receipt in shown if not signed.confirmed]
            unknown = [chan for chan in unsigned if rows.find(connection, pair, chan) is None]
            new = unknown[-NEW_UNSIGNED:]  # the latest, the channel in use among them: its next tick adds to it
            for signed, receipt in shown:
                row = rows.find(connection, pair, receipt.chan)
                _believe(row, signed, receipt)
                if row is not None or signed.confirmed or receipt.chan in new:
                    rows.store(connection, "provider", signed, receipt, peer)
            rows.met(connection, pair, peer)

        await self._signer.database.write(adopt)
        return ProviderChannel(self._signer, pair, peer)

    async def totals(self, role: Role, key: bytes) -> Totals:
        """The totals of all channels with a ledger key in one role, added up."""
        pair = self._pair(role, key)
        return await self._signer.database.read(lambda connection: rows.sums(connection, pair))

    async def confirmed(self, provider: bytes, chan: int) -> int:
        """The number of the newest receipt on a channel of ours that ``provider`` countersigned; 0 before the first."""
        pair = self._pair("consumer", provider)
        row = await self._signer.database.read(lambda connection: rows.find(connection, pair, chan))
        return 0 if row is None else row.confirmed_seq

    async def accounts(self) -> CreditsView:
        """All channels and their sums."""
        return credits_of(await self._signer.database.read(rows.everything))

    def _pair(self, role: Role, key: bytes) -> Pair:
        ours = self._signer.identity.ledger_public
        return Pair(role, ours, key) if role == "consumer" else Pair(role, key, ours)

    def _to_show(self, chans: list[int], key: bytes, turn: int) -> list[int]:
        """So many channels as may be needed, of which ``chans`` are the latest opened first."""
        current, _ = self._signer.last.get(key, (None, 0))
        chans = sorted(chans, key=lambda chan: chan != current)
        first, rest = chans[:ALWAYS_SHOWN], chans[ALWAYS_SHOWN:]
        start = turn % max(1, len(rest))
        return (first + rest[start:] + rest[:start])[:SHOWN]


class ConsumerChannel:
    """What we owe one provider on the channel in use. :meth:`Book.consume` gives one."""

    def __init__(self, signer: Signer, pair: Pair, peer: PeerId, row: Channel | None) -> None:
        self._signer = signer
        self._pair = pair
        self._peer = peer
        self.total = Totals() if row is None else row.total
        """What we signed on it."""
        self.confirmed = Totals() if row is None else row.confirmed_total
        """What the provider countersigned of it."""

    async def pay(self, more: Totals) -> SignedReceipt:
        """Sign for ``more``; what this gives is on the disk and may be sent.

        When it raises (DiskFull, say), nothing has changed and nothing is paid. The number was used, though, if nobody
        saw the receipt: what is paid next goes on another channel.
        """
        if min(_counts(more)) < 0 or more == Totals():
            raise InternalFault("A receipt was to be signed for nothing or for less than before.")
        signer = self._signer

        def sign(connection: Connection) -> tuple[SignedReceipt, Totals, Totals]:
            row = _in_use(connection, signer, self._pair)
            signed, receipt = self._sign(row, self._unused(connection) if row is None else row.chan, more)
            signer.last[self._pair.provider] = (receipt.chan, receipt.seq)
            if not rows.store(connection, "consumer", signed, receipt, self._peer):
                raise InternalFault("A receipt to be signed was not the newest of its channel.")
            return signed, Totals.of(receipt), Totals() if row is None else row.confirmed_total

        signed, self.total, self.confirmed = await signer.database.write(sign)
        return signed

    async def confirm(self, signed: SignedReceipt) -> None:
        """The provider countersigned: keep it, if that is news. It may be of an older channel, even of one forgotten.

        Raises ProtocolViolation when it is not a receipt that we signed for this provider, with both signatures; and
        what the database raises.
        """
        if not signed.confirmed:
            raise ProtocolViolation("a receipt came back without the provider's signature.")
        [(_, receipt)] = _checked(self._signer, self._pair, [signed])

        def keep(connection: Connection) -> Totals:
            rows.store(connection, "consumer", signed, receipt, self._peer)
            current = _in_use(connection, self._signer, self._pair)
            return Totals() if current is None else current.confirmed_total

        self.confirmed = await self._signer.database.write(keep)

    def _sign(self, row: Channel | None, chan: int, more: Totals) -> Checked:
        signer = self._signer
        total = more if row is None else row.total.plus(more)
        if max(_counts(total)) > UINT:
            raise InternalFault("A channel would hold more than a receipt can say.")
        receipt = Receipt(
            network=signer.network,
            consumer=self._pair.consumer,
            provider=self._pair.provider,
            chan=chan,
            seq=1 if row is None else row.seq + 1,
            cum_uc=total.uc,
            cum_in=total.prompt,
            cum_out=total.output,
            n_req=total.requests,
            day=min(max(0, signer.day()), _LAST_DAY),
            prev=NO_PREVIOUS if row is None or row.confirmed is None else digest(row.confirmed),
        )
        body = encode(receipt)
        return SignedReceipt(body, signer.identity.sign_for_ledger(consumer_payload(body))), receipt

    def _unused(self, connection: Connection) -> int:
        """A random number that no channel of the pair has."""
        while True:
            number = int.from_bytes(self._signer.entropy(8), "big") & 0xFFFFFFFF
            if rows.find(connection, self._pair, number) is None:
                return number


class ProviderChannel:
    """What one consumer owes us, on whatever channel its ticks name. :meth:`Book.provide` gives one."""

    def __init__(self, signer: Signer, pair: Pair, peer: PeerId) -> None:
        self._signer = signer
        self._pair = pair
        self._peer = peer
        self._chan: int | None = None
        self.total = Totals()
        """What the consumer signed on the channel of its last tick; zeros before the first."""

    async def take(self, signed: SignedReceipt, more: Totals) -> None:
        """A tick came that is to pay for ``more``; when this returns, it is on the disk.

        The receipt just stored may come again with nothing more to pay. Raises ProtocolViolation, and changes nothing,
        when it is not signed for us by this consumer, older than what is stored, or not the totals stored and ``more``;
        and what the database raises.
        """
        [(_, receipt)] = _checked(self._signer, self._pair, [signed])

        def keep(connection: Connection) -> None:
            row = rows.find(connection, self._pair, receipt.chan)
            if row is not None and row.newest.body == signed.body and more == Totals():
                return
            _pays(row, receipt, more)
            if not rows.store(connection, "provider", signed, receipt, self._peer):
                raise ProtocolViolation("a tick is older than what is stored.")

        await self._signer.database.write(keep)
        self._chan = receipt.chan
        self.total = Totals.of(receipt)

    async def countersign(self) -> SignedReceipt | None:
        """The newest receipt with both signatures, which is on the disk; None when there is nothing to countersign.

        The channel of the last tick comes first, then others of this consumer that were left unsigned: ask until None.
        """

        def sign(connection: Connection) -> SignedReceipt | None:
            row = rows.unsigned(connection, self._pair, self._chan)
            if row is None:
                return None
            body, sig_c = row.newest.body, row.newest.sig_c
            signed = SignedReceipt(body, sig_c, self._signer.identity.sign_for_ledger(provider_payload(body, sig_c)))
            rows.confirm(connection, self._pair, signed, content(signed))
            return signed

        return await self._signer.database.write(sign)


def _in_use(connection: Connection, signer: Signer, pair: Pair) -> Channel | None:
    """The channel to sign on: opened in this run, and its row as this run left it. Else another has to be opened.

    A row that is behind means that a write failed or the file was replaced; one ahead, that somebody else has our key.
    """
    chan, seq = signer.last.get(pair.provider, (None, 0))
    row = None if chan is None else rows.find(connection, pair, chan)
    return row if row is not None and row.seq == seq else None


def _checked(signer: Signer, pair: Pair, receipts: Iterable[SignedReceipt]) -> list[Checked]:
    """Receipts of a pair with what they say, every signature verified. Raises ProtocolViolation."""
    found = []
    for signed in receipts:
        receipt = checked(signed, signer.network, verify)
        if (receipt.consumer, receipt.provider) != (pair.consumer, pair.provider):
            raise ProtocolViolation("a receipt is of other ledger keys than this session's.")
        if receipt.seq == 0:
            raise ProtocolViolation("a receipt has the number 0, and the first has 1.")
        found.append((signed, receipt))
    return found


def _believe(row: Channel | None, signed: SignedReceipt, receipt: Receipt) -> None:
    """Raise ProtocolViolation when a receipt that a consumer shows contradicts what is stored, or claims too much."""
    known = 0 if row is None else row.total.uc
    if not signed.confirmed and receipt.cum_uc > known + MOST_UNSIGNED_UC:
        raise ProtocolViolation("a receipt owes far more than we ever countersigned.")
    if row is None or signed.body == row.newest.body:
        return
    stored = content(row.newest)
    if not supersedes(receipt, stored) and not supersedes(stored, receipt):
        raise ProtocolViolation("a consumer signed two receipts that contradict each other.")


def _pays(row: Channel | None, receipt: Receipt, more: Totals) -> None:
    """Raise ProtocolViolation unless a receipt is a newer one than the stored, and pays just ``more`` on top."""
    stored = Totals() if row is None else row.total
    if row is not None and receipt.seq <= row.seq:
        raise ProtocolViolation(f"a tick has the number {receipt.seq}, and {row.seq} is stored.")
    if more == Totals():
        raise ProtocolViolation("a tick pays for nothing.")
    due = stored.plus(more)
    for name in Totals.__struct_fields__:
        if (paid := getattr(Totals.of(receipt), name)) != getattr(due, name):
            raise ProtocolViolation(f"a tick states {paid} {_NAMES[name]} in all, and {getattr(due, name)} are due.")


_NAMES: Final = {"uc": "µc", "prompt": "prompt tokens", "output": "output tokens", "requests": "requests"}


def _counts(totals: Totals) -> tuple[int, int, int, int]:
    return (totals.uc, totals.prompt, totals.output, totals.requests)
