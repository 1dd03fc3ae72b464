"""The directory as a Kademlia DHT, over any Transport.

It speaks libp2p's messages ("kad-dht" in its specifications) under a protocol of this mesh's own, and stands on our
own streams, so that all their guards and bounds hold for it too. libp2p 0.8.1 has a Kademlia of its own; these are its
traps, what is done here, and each has a test that shows both (``tests/kit/kad_stock.py`` runs the stock one):

==  ==========================================================  ==============================================
 n  stock libp2p                                                here
==  ==========================================================  ==============================================
 1  the protocol's prefix is fixed: all become part of IPFS     ``/meshnode/kad/1.0.0``
 2  provide() is true though receivers drop more than 10 keys   9 keys per 10 s, looked up afterwards, and
    per 10 s                                                    tried again
 3  find_providers answers from what it holds, and stops        asks the closest peers each time
 4  20 providers per key, later ones unseen                     shards (``directory``)
 5  records live for 48 h                                       10 minutes, renewed each 4
 6  values of unknown kinds are kept, 50,000 of 1 MiB           no values are kept
 7  any number of keys                                          16,384 records of at most 1 KiB, few per peer
 8  messages up to 4 MiB are read                               64 KiB
 9  any peer may stand under any key                            only in its shard
10  12 idle streams of one peer make a node deaf                8 per peer, 64 in all, ended when idle
11  who asks enters the routing table, unasked                  who has answered does
12  who is connected does not                                   it is asked at once
==  ==========================================================  ==============================================

A node that is connected to 256 peers dials no more of them for the DHT: it asks those that it is connected to.
Where no more than 20 nodes are in the mesh, each comes to be connected to all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import trio
from libp2p.peer.id import ID

from meshnode.domain import PeerId
from meshnode.errors import MeshnodeError, Overloaded, ProtocolViolation, Unreachable
from meshnode.net.addressbook import is_local
from meshnode.net.directory import (
    ENOUGH,
    ROOM,
    Directory,
    Hint,
    Key,
    Outcome,
    Search,
    Timing,
    stem_of,
)
from meshnode.net.kad_server import STREAMS_PER_PEER, Server
from meshnode.net.kad_table import Contact, Table, Walk, contact, position
from meshnode.net.kad_wire import Kind, Message, Reader, encode
from meshnode.net.provider_records import Caps, ProviderRecords, subnet_of, usable
from meshnode.net.publishing import Publisher
from meshnode.net.serving import report
from meshnode.net.transport import Transport

PROTOCOL = "/meshnode/kad/1.0.0"
ALPHA = 6
"""Peers that one look-up asks at the same time."""
MOST_CONNECTIONS = 256
_MOST_ASKS = 24  # at the same time, of all look-ups together
_REST_S = 5.0  # between two looks around that newcomers cause
_FEW = 5  # with fewer peers in the table everybody who is connected is asked


@asynccontextmanager
async def open_directory(
    host: Transport, network: str, *, timing: Timing | None = None, caps: Caps | None = None
) -> AsyncIterator[Directory]:
    """The directory of ``network`` for ``host``, which serves the DHT to others meanwhile.

    On leaving, its streams are reset and every task is gone; records of ours expire at the others.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        directory = Kademlia(host, network, timing or Timing(), caps or Caps(), nursery)
        host.set_handler(PROTOCOL, directory.server.serve)
        nursery.start_soon(directory.run)
        try:
            yield directory
        except Exception as error:  # raised again below: the nursery would wrap it in a group
            failure = error
        finally:
            host.remove_handler(PROTOCOL)
            directory.server.stop()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Kademlia:
    """A node of the DHT. Made by :func:`open_directory`."""

    def __init__(self, host: Transport, network: str, timing: Timing, caps: Caps, nursery: trio.Nursery) -> None:
        self._host = host
        self._me = host.peer_id
        self._network = network
        self._timing = timing
        self._nursery = nursery
        self._table = Table(self._me)
        self._records = ProviderRecords(timing.expire_s, caps)
        self._publisher = Publisher(network, self._me, timing, self._write)
        self._asks = trio.CapacityLimiter(_MOST_ASKS)
        self._turns: dict[PeerId, trio.CapacityLimiter] = {}
        self._newcomers = trio.Event()
        self.server = Server(host, self._table, self._records, self._ours, self._greet_soon, self._timing.idle_s)

    @property
    def published(self) -> frozenset[str]:
        """The names that a look-up found at others, and that are not expired since."""
        return self._publisher.published

    @property
    def table(self) -> frozenset[PeerId]:
        """Peers that have answered."""
        return frozenset(one.peer for one in self._table.closest(0, len(self._table)))

    @property
    def records(self) -> int:
        """Records of others that are kept here."""
        return len(self._records)

    async def provide(self, names: Collection[str]) -> None:
        """From now on tell that this node provides ``names``, and no others. Returns at once."""
        self._publisher.replace(names)
        await trio.lowlevel.checkpoint()

    async def find(self, name: str, *, enough: int = ENOUGH, besides: Collection[PeerId] = ()) -> tuple[Hint, ...]:
        """Peers that may serve ``name``, asked afresh; never raises for trouble with peers."""
        search = Search(stem_of(self._network, name), enough, (*besides, self._me))

        async def read(key: Key) -> None:
            search.take(key, self._records.get(key, trio.current_time()))
            await self._walk(
                Message(kind=Kind.GET_PROVIDERS, key=key.encoded()), lambda heard: search.take(key, heard.providers)
            )

        with trio.move_on_after(self._timing.find_s):
            await search.run(read)
        return tuple(search.found.values())

    async def run(self) -> None:
        """Greet who connects, look around, publish; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            nursery.start_soon(self._look_around)
            nursery.start_soon(self._publisher.run)

    # --- asking ---------------------------------------------------------------------------------

    async def _walk(self, question: Message, heard: Callable[[Message], None] | None = None) -> dict[PeerId, Message]:
        """Ask the peers closest to the question's key, and return the answers of the closest, closest first."""
        target = position(question.key)
        start = self._table.closest(target)
        if len(start) < _FEW:
            start += [contact(peer) for peer in self._host.peers]
        walk = Walk(target, start)
        answers: dict[PeerId, Message] = {}
        news = trio.lowlevel.ParkingLot()

        async def work() -> None:
            while not walk.over:
                one = walk.take()
                if one is None:
                    await news.park()
                    continue
                answer = await self._ask(one, question)
                if answer is None:
                    walk.failed(one.peer)
                else:
                    answers[one.peer] = answer
                    walk.answered(one.peer, self._contacts(answer.closer))
                    if heard is not None:
                        heard(answer)
                news.unpark_all()

        async with trio.open_nursery() as nursery:
            for _ in range(ALPHA):
                nursery.start_soon(work)
        return {one.peer: answers[one.peer] for one in walk.closest if one.peer in answers}

    def _contacts(self, hints: Collection[Hint]) -> list[Contact]:
        return [contact(hint.peer, hint.addresses) for hint in hints if hint.peer != self._me]

    async def _ask(self, one: Contact, *messages: Message) -> Message | None:
        """The answer to the last of ``messages``; None, and out of the table with it, when the peer has none in time.

        A peer that only gave up the stream stays in the table: it may have too much to do.
        """
        answer, gone = None, False
        async with self._turn(one.peer), self._asks:
            with trio.move_on_after(self._timing.ask_s) as patience:
                try:
                    answer = await self._exchange(one, messages)
                except (Unreachable, ProtocolViolation):
                    gone = True
                except MeshnodeError:
                    pass
                except Exception as error:
                    report(one.peer, PROTOCOL, error)
        if answer is not None:
            self._keep(one)
        elif gone or patience.cancelled_caught:
            self._table.remove(one.peer)
        return answer

    @asynccontextmanager
    async def _turn(self, peer: PeerId) -> AsyncIterator[None]:
        """One of the few streams to ``peer`` at a time: with more it would refuse some."""
        limiter = self._turns.setdefault(peer, trio.CapacityLimiter(STREAMS_PER_PEER // 2))
        try:
            async with limiter:
                yield
        finally:
            if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting:
                self._turns.pop(peer, None)

    async def _exchange(self, one: Contact, messages: Collection[Message]) -> Message:
        if one.peer not in self._host.peers:
            if len(self._host.peers) >= MOST_CONNECTIONS:
                raise Overloaded("Enough peers are connected already.")
            self._host.learn(one.peer, one.addresses)
        async with self._host.open_stream(one.peer, PROTOCOL) as stream:
            reader = Reader(stream, local=is_local(self._host, one.peer))
            await stream.write(b"".join(map(encode, messages)))
            await stream.close_write()
            last = [message.kind for message in messages][-1]
            while (answer := await reader.next()) is not None:
                if answer.kind == last:
                    return answer
        raise ProtocolViolation(f"{one.peer} ended without an answer.")

    def _keep(self, one: Contact) -> None:
        """Take a peer that has answered into the table, with an address at which it can be dialled again."""
        link = self._host.link(one.peer)
        addresses = usable(one.peer, self._host.known(one.peer), local=is_local(self._host, one.peer)) or one.addresses
        if link is not None:
            self._table.add(one._replace(addresses=addresses), subnet_of(link.address))

    # --- knowing others -------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask everybody who connects whether he is of the DHT."""
        seen: frozenset[PeerId] = frozenset()
        while True:
            now = await self._host.wait_change(seen)
            for peer in now - seen:
                self.server.meet(peer)
            self.server.forget(now)
            seen = now

    def _greet_soon(self, peer: PeerId) -> None:
        self._nursery.start_soon(self._greet, peer)

    async def _greet(self, peer: PeerId) -> None:
        if await self._ask(contact(peer), self._whoami()) is not None:
            self._newcomers.set()

    def _whoami(self) -> Message:
        return Message(kind=Kind.FIND_NODE, key=ID.from_base58(self._me).to_bytes())

    async def _look_around(self) -> None:
        """Find our neighbours when somebody is new, and now and then; then publish what could not be published.

        Also look into another part of the key space each time. When the mesh we know has doubled, publish all again:
        others may be closer to our keys now.
        """
        known = 1
        for turn in range(1 << 62):
            with trio.move_on_after(self._timing.refresh_s):
                await self._newcomers.wait()
            self._newcomers = trio.Event()
            self._publisher.hurry()
            await self._walk(self._whoami())
            await self._walk(Message(kind=Kind.FIND_NODE, key=stem_of(self._me, str(turn))))
            if len(self._table) >= 2 * known:
                known = len(self._table)
                self._publisher.hurry(everything=True)
            await trio.sleep(_REST_S)

    # --- telling --------------------------------------------------------------------------------

    async def _write(self, key: Key) -> Outcome:
        """Put us under ``key`` at the peers closest to it, and see that most of those tell of us then."""
        question = Message(kind=Kind.GET_PROVIDERS, key=key.encoded())
        answers = await self._walk(question)
        ours = self._hint()
        if not answers or not ours.addresses:
            return Outcome.REFUSED
        room = [peer for peer, answer in answers.items() if self._welcome(key, answer)]
        if 2 * len(room) <= len(answers):
            return Outcome.FULL
        await self._publisher.turn()
        put = Message(kind=Kind.ADD_PROVIDER, key=key.encoded(), providers=(ours,))
        verified = 0

        async def tell(peer: PeerId) -> None:
            nonlocal verified
            answer = await self._ask(self._table.get(peer) or contact(peer), put, question)
            verified += answer is not None and any(hint.peer == self._me for hint in answer.providers)

        async with trio.open_nursery() as nursery:
            for peer in room:
                nursery.start_soon(tell, peer)
        return Outcome.PLACED if 2 * verified > len(room) else Outcome.REFUSED

    def _hint(self) -> Hint:
        return Hint(peer=self._me, addresses=usable(self._me, self._host.addresses, local=True))

    def _ours(self, key: Key) -> Hint | None:
        return self._hint() if self._publisher.provides(key) else None

    def _welcome(self, key: Key, answer: Message) -> bool:
        """Whether who answered has room for us under ``key``, or has us there already."""
        there = {hint.peer for hint in answer.providers}
        return self._me in there or len(there) < ROOM
