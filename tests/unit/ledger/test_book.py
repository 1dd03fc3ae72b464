"""One consumer and one provider through crashes, lost and repeated messages, full disks and restored backups.

Commands are drawn and run against two books and a wire between them; after each, what must always hold is checked.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import DiskFull, ProtocolViolation
from meshnode.ledger import channel as rows
from meshnode.ledger.book import NEW_UNSIGNED, SHOWN, Book, ConsumerChannel, ProviderChannel, Totals
from meshnode.ledger.channel import Channel
from meshnode.storage.database import open_inline
from meshnode.wire.receipt import Receipt, SignedReceipt, content, supersedes
from tests.kit.peers import ALICE, BOB
from tests.kit.receipts import C, Filling, P, Recorded, book, dump, load, receipt, times

Message = tuple[SignedReceipt, Totals]
PEERS: Final = {"consumer": BOB.peer_id, "provider": ALICE.peer_id}
KEYS: Final = {"consumer": P, "provider": C}


class Node:
    """One of the two: a database that outlives crashes, a book that does not, and backups."""

    def __init__(self, stack: AsyncExitStack, role: rows.Role, who: Recorded) -> None:
        self._stack = stack
        self.role: rows.Role = role
        self.who = who
        self.runs = 0
        self.backup: list[tuple[object, ...]] = []
        self.database: Filling
        self.book: Book

    async def restore(self) -> None:
        """Start on an empty disk with what the backup holds."""
        self.database = Filling(await self._stack.enter_async_context(open_inline()))
        await self.database.write(load(self.backup))
        self.start()

    def start(self) -> None:
        """Start on the disk as it is."""
        self.runs += 1
        self.book = book(self.database, self.who, day=self.runs * 999, seed=self.runs * 2 + (self.role == "consumer"))

    async def back_up(self) -> None:
        """Copy the disk."""
        self.backup = await self.database.read(dump)

    async def shown(self) -> tuple[SignedReceipt, ...]:
        """What it shows the other when a session opens."""
        return await self.book.newest(self.role, KEYS[self.role])

    async def channels(self) -> dict[int, Channel]:
        """Its rows by channel."""
        return {row.chan: row for row in await self.database.read(rows.everything)}


class World:
    """Both, and what is on its way between them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.consumer = Node(stack, "consumer", Recorded(ALICE))
        self.provider = Node(stack, "provider", Recorded(BOB))
        self.pays: ConsumerChannel | None = None
        self.takes: ProviderChannel | None = None
        self.there: list[Message] = []
        self.back: list[SignedReceipt] = []
        self.sent: list[Message] = []
        self.given: list[SignedReceipt] = []
        self.acknowledged: dict[int, int] = {}
        self.confirmed: dict[int, int] = {}
        self.counted: set[bytes] = set()

    async def open(self) -> tuple[ConsumerChannel, ProviderChannel]:
        """The session, opened if there is none: both show what they hold, then both take it."""
        if self.pays is None or self.takes is None:
            ours, theirs = await self.consumer.shown(), await self.provider.shown()
            known = await self.provider.channels()
            new = [signed for signed in ours if not signed.confirmed and content(signed).chan not in known]
            self.takes = await self.provider.book.provide(C, PEERS["provider"], ours)
            self.pays = await self.consumer.book.consume(P, PEERS["consumer"], theirs)
            await self._same(len(ours) < SHOWN and len(theirs) < SHOWN and len(new) <= NEW_UNSIGNED)
        return self.pays, self.takes

    async def _same(self, everything_was_shown: bool) -> None:
        """After a session opened, neither is short of anything that the other knew."""
        if everything_was_shown:
            ours, theirs = await self.consumer.channels(), await self.provider.channels()
            assert {chan: row.total for chan, row in ours.items()} == {chan: row.total for chan, row in theirs.items()}

    def cut(self) -> None:
        """The connection is lost, with all that was on its way."""
        self.pays = self.takes = None
        self.there.clear()
        self.back.clear()

    # --- commands -----------------------------------------------------------------------------

    async def pay(self, amount: int) -> None:
        """Sign and send a tick."""
        pays = (await self.open())[0]
        more = Totals(uc=amount, prompt=amount % 3, output=1, requests=amount % 2)
        self.there.append((await pays.pay(more), more))
        self.sent.append(self.there[-1])

    async def pay_and_crash(self, amount: int) -> None:
        """The tick is signed and stored, and never sent."""
        await self.pay(amount)
        self.there.pop()
        await self.crash_consumer(0)

    async def pay_on_a_full_disk(self, amount: int) -> None:
        """Nothing is stored, so nothing may be sent."""
        pays = (await self.open())[0]
        before = await self.consumer.database.read(dump)
        self.consumer.database.full = True
        try:
            await pays.pay(Totals(uc=amount, output=1))
        except DiskFull:
            assert await self.consumer.database.read(dump) == before
        else:
            raise AssertionError("a full disk took a receipt")
        finally:
            self.consumer.database.full = False

    async def deliver(self, _: int) -> None:
        """The first tick on its way arrives; it is as it should be."""
        takes = (await self.open())[1]
        if self.there:
            signed, more = self.there.pop(0)
            await takes.take(signed, more)
            self._count(signed)

    def _count(self, signed: SignedReceipt) -> None:
        assert signed.body not in self.counted
        self.counted.add(signed.body)
        self.acknowledged[content(signed).chan] = content(signed).cum_uc

    async def replay(self, which: int) -> None:
        """A tick sent any time ago arrives again; it counts only if it never did and is next."""
        takes = (await self.open())[1]
        if self.sent and not self.there:
            signed, more = self.sent[which % len(self.sent)]
            before = await self.provider.database.read(dump)
            try:
                await takes.take(signed, more)
            except ProtocolViolation:
                assert await self.provider.database.read(dump) == before
            else:
                self._count(signed)

    async def show_again(self, which: int) -> None:
        """A receipt from any time ago is shown as if it were the newest."""
        self.cut()
        await self.open()
        if self.sent:
            signed = self.sent[which % len(self.sent)][0]
            before = (await self.provider.book.accounts()).earned
            await self.provider.book.provide(C, PEERS["provider"], [signed])
            assert (await self.provider.book.accounts()).earned >= before

    async def countersign(self, _: int) -> None:
        """The provider signs what it has, and sends it."""
        takes = (await self.open())[1]
        if (signed := await takes.countersign()) is not None:
            self.back.append(signed)
            self.given.append(signed)

    async def hear(self, _: int) -> None:
        """The first countersignature on its way arrives."""
        pays = (await self.open())[0]
        if self.back:
            await self._hear(pays, self.back.pop(0))

    async def hear_again(self, which: int) -> None:
        """One from any time ago arrives again."""
        pays = (await self.open())[0]
        if self.given:
            await self._hear(pays, self.given[which % len(self.given)])

    async def _hear(self, pays: ConsumerChannel, signed: SignedReceipt) -> None:
        await pays.confirm(signed)
        said = content(signed)
        self.confirmed[said.chan] = max(self.confirmed.get(said.chan, 0), said.cum_uc)

    async def lose(self, _: int) -> None:
        """The connection is lost."""
        self.cut()

    async def crash_consumer(self, _: int) -> None:
        """Killed and started again."""
        self.cut()
        self.consumer.start()

    async def crash_provider(self, _: int) -> None:
        """Killed and started again."""
        self.cut()
        self.provider.start()

    async def back_up(self, which: int) -> None:
        """One of them, or both, copy their disk."""
        for node in self._nodes(which):
            await node.back_up()

    async def restore(self, which: int) -> None:
        """One of them, or both, are put back to their backup."""
        self.cut()
        for node in self._nodes(which):
            await node.restore()
            kept = await node.channels()
            if node is self.provider:
                self.acknowledged = {chan: row.total.uc for chan, row in kept.items()}
                self.counted = set()
            else:
                self.confirmed = {chan: row.confirmed_uc for chan, row in kept.items()}

    def _nodes(self, which: int) -> list[Node]:
        return [[self.consumer], [self.provider], [self.consumer, self.provider]][which % 3]

    # --- what always holds ----------------------------------------------------------------------

    async def check(self) -> None:
        """Nothing acknowledged is lost, nothing is counted that was not signed, nobody contradicts itself."""
        ours, theirs = await self.consumer.channels(), await self.provider.channels()
        signed = {body: content(SignedReceipt(body, bytes(64))) for body in self.consumer.who.signed}
        no_contradiction(list(signed.values()))
        for row in (*ours.values(), *theirs.values()):
            assert row.newest.body in signed
            assert row.total == Totals.of(signed[row.newest.body])
        for chan, uc in self.acknowledged.items():
            assert theirs[chan].total.uc >= uc
        for chan, uc in self.confirmed.items():
            assert ours[chan].confirmed_uc >= uc
        most = sum(max((said.cum_uc for said in signed.values() if said.chan == chan), default=0) for chan in theirs)
        assert (await self.provider.book.accounts()).earned <= most


def no_contradiction(receipts: list[Receipt]) -> None:
    """Of any two receipts of a channel one is newer in every respect: there is no evidence against their signer."""
    newest: dict[int, Receipt] = {}
    for each in sorted(receipts, key=lambda said: said.seq):
        if each.chan in newest:
            assert supersedes(each, newest[each.chan])
        newest[each.chan] = each


COMMANDS: Final = (
    *("pay", "pay", "pay", "deliver", "deliver", "deliver", "countersign", "hear", "lose"),
    *("pay_and_crash", "pay_on_a_full_disk", "replay", "show_again", "hear_again"),
    *("crash_consumer", "crash_provider", "back_up", "restore"),
)


async def run(commands: list[tuple[str, int]]) -> None:
    """One history, and a last meeting at which all is settled."""
    async with AsyncExitStack() as stack:
        world = World(stack)
        for node in (world.consumer, world.provider):
            await node.restore()
        for name, argument in commands:
            await getattr(world, name)(argument)
            await world.check()
        world.cut()
        pays, takes = await world.open()
        for _ in await world.provider.channels():
            if (signed := await takes.countersign()) is not None:
                await pays.confirm(signed)
        await world.check()
        view = await world.provider.book.accounts()
        assert view.earned_unconfirmed == 0


@given(st.lists(st.tuples(st.sampled_from(COMMANDS), st.integers(1, 50)), max_size=60))
@settings(max_examples=150)
def test_no_history_loses_money_counts_it_twice_or_makes_a_node_contradict_itself(
    commands: list[tuple[str, int]],
) -> None:
    trio.run(run, commands)


def test_a_restored_consumer_does_not_contradict_the_tick_that_nobody_showed_it() -> None:
    """The copy was made before a tick that the provider never got, or keeps to itself: nothing tells of it."""
    trio.run(
        run,
        [("pay", 5), ("deliver", 0), ("back_up", 0), ("pay", 7), ("lose", 0), ("restore", 0), ("pay", 3)],
    )


async def test_a_provider_that_lost_its_disk_takes_up_the_channel_in_use_before_older_ones() -> None:
    """However many it does not know: the next tick adds to this one, and is honest."""
    some = Totals(uc=5, output=1)
    async with open_inline() as hers, open_inline() as his:
        for run_number in range(NEW_UNSIGNED + 2):
            alice = book(hers, ALICE, seed=run_number)
            pays = await alice.consume(P, PEERS["consumer"], ())
            await pays.pay(some)
        bob = book(his, BOB)
        takes = await bob.provide(C, PEERS["provider"], await alice.newest("consumer", P))
        await takes.take(await pays.pay(some), some)
        await bob.provide(C, PEERS["provider"], await alice.newest("consumer", P))
        assert await bob.totals("provider", C) == await alice.totals("consumer", P)


async def test_two_nodes_on_copies_of_one_disk_do_not_contradict_each_other() -> None:
    who = Recorded(ALICE)
    async with open_inline() as disk, open_inline() as copy:
        await (await book(disk, who).consume(P, PEERS["consumer"], ())).pay(Totals(uc=5, output=1))
        await copy.write(load(await disk.read(dump)))
        pays = [await book(each, who, seed=n).consume(P, PEERS["consumer"], ()) for n, each in enumerate((disk, copy))]
        for n in (1, 2, 3):
            for channel in pays:
                await channel.pay(Totals(uc=n, output=1))
    no_contradiction([content(SignedReceipt(body, bytes(64))) for body in who.signed])


async def test_a_file_replaced_under_a_running_node_is_noticed() -> None:
    who = Recorded(ALICE)
    async with open_inline() as first, open_inline() as second:
        switch = Filling(first)
        pays = await book(switch, who).consume(P, PEERS["consumer"], ())
        await pays.pay(Totals(uc=5, output=1))
        old = await first.read(dump)
        await pays.pay(Totals(uc=6, output=1))
        await second.write(load(old))
        switch._database = second
        await pays.pay(Totals(uc=1, output=1))
    no_contradiction([content(SignedReceipt(body, bytes(64))) for body in who.signed])


def test_contradictions_would_be_seen() -> None:
    for other in (receipt(1, times(2)), receipt(2, Totals(uc=999, prompt=99, output=99, requests=9))):
        with pytest.raises(AssertionError):
            no_contradiction([receipt(1), other])
    no_contradiction([receipt(1), receipt(2, times(2)), receipt(1, times(2), chan=8)])
