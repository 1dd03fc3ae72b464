"""What a node of the DHT accepts from others, and how little one of them can take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message as Packed
from trio.testing import MockClock, wait_all_tasks_blocked

from meshnode.domain import PeerId
from meshnode.errors import PeerError, StreamReset
from meshnode.identity import Identity
from meshnode.net.directory import Hint, Key, key_for, shard_of, stem_of
from meshnode.net.kad_server import MOST_STREAMS, STREAMS_PER_PEER, Server
from meshnode.net.kad_table import Table, contact
from meshnode.net.kad_wire import Kind, Message, Reader, encode
from meshnode.net.memory import MemoryHost, MemoryNetwork, open_network
from meshnode.net.provider_records import ProviderRecords
from tests.kit.peers import ALICE, BOB, CAROL, identity

KAD = "/test/kad/1"
STEM = stem_of("net", "m")
A_VALUE = Packed(type=Packed.MessageType.PUT_VALUE, key=b"key").SerializeToString()


class Desk:
    """Bob serves on a network in memory; whom he greets is noted."""

    def __init__(self, network: MemoryNetwork, host: MemoryHost) -> None:
        self.network = network
        self.host = host
        self.greeted: list[PeerId] = []
        self.ours: dict[Key, Hint] = {}
        self.table = Table(BOB.peer_id)
        self.records = ProviderRecords(600)
        self.server = Server(host, self.table, self.records, self.ours.get, self.greeted.append, 10)
        host.set_handler(KAD, self.server.serve)

    @asynccontextmanager
    async def guest(self, who: Identity) -> AsyncIterator[MemoryHost]:
        """Somebody who is connected."""
        async with self.network.open_host(who, ["/ip4/10.0.0.1/tcp/0"]) as host:
            await host.connect(self.host.addresses[0])
            yield host


@pytest.fixture
async def desk(autojump_clock: MockClock) -> AsyncIterator[Desk]:
    """Bob, with nobody there yet."""
    async with open_network() as network, network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as host:
        yield Desk(network, host)


async def ask(host: MemoryHost, *messages: Message) -> list[Message]:
    """Say something to Bob, and return all that he says. Raises StreamReset when he gives up the stream."""
    async with host.open_stream(BOB.peer_id, KAD) as stream:
        await stream.write(b"".join(map(encode, messages)))
        await stream.close_write()
        reader, heard = Reader(stream, local=True), []
        while (answer := await reader.next()) is not None:
            heard.append(answer)
        return heard


def announce(key: Key, *who: PeerId) -> Message:
    """An ADD_PROVIDER."""
    hints = tuple(Hint(peer=peer, addresses=(f"/ip4/10.0.0.1/tcp/1/p2p/{peer}",)) for peer in who)
    return Message(kind=Kind.ADD_PROVIDER, key=key.encoded(), providers=hints)


def question(key: Key) -> Message:
    """A GET_PROVIDERS."""
    return Message(kind=Kind.GET_PROVIDERS, key=key.encoded())


async def test_what_is_announced_is_told(autojump_clock: MockClock, desk: Desk) -> None:
    key = key_for(STEM, ALICE.peer_id, 1)
    async with desk.guest(ALICE) as alice, desk.guest(CAROL) as carol:
        echo, told = await ask(alice, announce(key, ALICE.peer_id), question(key))
        assert echo == Message(kind=Kind.ADD_PROVIDER, key=key.encoded())
        assert [hint.peer for hint in told.providers] == [ALICE.peer_id]
        (again,) = await ask(carol, question(key))
        assert again.providers == told.providers
        (other,) = await ask(carol, question(Key(STEM, 2, 0)))
        assert other.providers == ()


async def test_a_record_of_somebody_else_is_refused(autojump_clock: MockClock, desk: Desk) -> None:
    key = Key(STEM, 1, 0)
    async with desk.guest(ALICE) as alice:
        for who in ((CAROL.peer_id,), (ALICE.peer_id, CAROL.peer_id), ()):
            with pytest.raises(StreamReset):
                await ask(alice, announce(key, *who))
    assert len(desk.records) == 0


async def test_a_record_in_the_wrong_shard_or_under_no_key_of_ours_is_refused(
    autojump_clock: MockClock, desk: Desk
) -> None:
    right = shard_of(STEM, ALICE.peer_id, 4)
    async with desk.guest(ALICE) as alice:
        for shard in range(4):
            assert bool(await ask(alice, announce(Key(STEM, 4, shard), ALICE.peer_id))) == (shard == right)
        hint = announce(Key(STEM, 1, 0), ALICE.peer_id).providers
        assert await ask(alice, Message(kind=Kind.ADD_PROVIDER, key=b"k" * 36, providers=hint)) == []
    assert len(desk.records) == 1


async def test_ten_announcements_and_then_one_per_second(autojump_clock: MockClock, desk: Desk) -> None:
    keys = [key_for(stem_of("net", f"m{number}"), ALICE.peer_id, 1) for number in range(30)]
    async with desk.guest(ALICE) as alice:
        took = [bool(await ask(alice, announce(key, ALICE.peer_id))) for key in keys]
        assert took == [True] * 10 + [False] * 20
        await trio.sleep(5)
        took = [bool(await ask(alice, announce(key, ALICE.peer_id))) for key in keys]
        assert took == [True] * 5 + [False] * 25


async def test_a_flood_of_questions_is_ended(autojump_clock: MockClock, desk: Desk) -> None:
    async with desk.guest(ALICE) as alice, desk.guest(CAROL) as carol:
        heard = await ask(alice, *[question(Key(STEM, 1, 0))] * 1000)
        assert 500 <= len(heard) < 520
        assert await ask(carol, Message(kind=Kind.PING)) == [Message(kind=Kind.PING)]


async def test_our_own_record_comes_first(autojump_clock: MockClock, desk: Desk) -> None:
    key = key_for(STEM, ALICE.peer_id, 1)
    desk.ours[key] = Hint(peer=BOB.peer_id, addresses=desk.host.addresses)
    async with desk.guest(ALICE) as alice:
        _, told = await ask(alice, announce(key, ALICE.peer_id), question(key))
    assert [hint.peer for hint in told.providers] == [BOB.peer_id, ALICE.peer_id]


async def test_whoever_is_known_is_told_of_but_not_to_himself(autojump_clock: MockClock, desk: Desk) -> None:
    for number in range(3):
        desk.table.add(contact(identity(f"{number}").peer_id, [f"/ip4/10.0.0.{number + 5}/tcp/1"]), None)
    desk.table.add(contact(ALICE.peer_id, ["/ip4/10.0.0.1/tcp/1"]), None)
    desk.table.add(contact(identity("unreachable").peer_id), None)
    async with desk.guest(ALICE) as alice:
        for kind in (Kind.FIND_NODE, Kind.GET_PROVIDERS):
            (told,) = await ask(alice, Message(kind=kind, key=b"anything"))
            assert {hint.peer for hint in told.closer} == {identity(f"{number}").peer_id for number in range(3)}


@pytest.mark.parametrize(
    "data",
    [
        encode(Message(kind=Kind.FIND_NODE)),
        b"\xff\xff\xff\x7f",
        b"\x03abc",
        bytes((len(A_VALUE),)) + A_VALUE,
        encode(Message(kind=Kind.PING))[:1],
    ],
    ids=["no key", "too long", "no message", "a value", "half a message"],
)
async def test_what_breaks_the_rules_resets_the_stream(autojump_clock: MockClock, desk: Desk, data: bytes) -> None:
    async with desk.guest(ALICE) as alice, alice.open_stream(BOB.peer_id, KAD) as stream:
        await stream.write(data)
        await stream.close_write()
        with pytest.raises(StreamReset):
            await stream.read()


async def test_a_stream_that_stands_still_is_ended(autojump_clock: MockClock, desk: Desk) -> None:
    async with desk.guest(ALICE) as alice, alice.open_stream(BOB.peer_id, KAD) as stream:
        start = trio.current_time()
        with pytest.raises(StreamReset):
            await stream.read()
        assert trio.current_time() - start == pytest.approx(10)


async def test_one_peer_holds_eight_streams_and_all_hold_64(autojump_clock: MockClock, desk: Desk) -> None:
    async with AsyncExitStack() as stack:
        for number in range(MOST_STREAMS // STREAMS_PER_PEER):
            guest = await stack.enter_async_context(desk.guest(identity(f"{number}")))
            for _ in range(STREAMS_PER_PEER):
                await stack.enter_async_context(guest.open_stream(BOB.peer_id, KAD))
            await wait_all_tasks_blocked()
            with pytest.raises(StreamReset):
                await ask(guest, Message(kind=Kind.PING))
        late = await stack.enter_async_context(desk.guest(ALICE))
        with pytest.raises(StreamReset):
            await ask(late, Message(kind=Kind.PING))


async def test_strangers_are_greeted_once_a_minute(autojump_clock: MockClock, desk: Desk) -> None:
    async with desk.guest(ALICE) as alice:
        for _ in range(3):
            await ask(alice, Message(kind=Kind.PING))
        assert desk.greeted == [ALICE.peer_id]
        await trio.sleep(61)
        await ask(alice, Message(kind=Kind.PING))
        assert desk.greeted == [ALICE.peer_id] * 2
        desk.table.add(contact(ALICE.peer_id), None)
        await trio.sleep(61)
        await ask(alice, Message(kind=Kind.PING))
        assert len(desk.greeted) == 2


async def test_no_account_is_kept_of_who_is_gone(autojump_clock: MockClock, desk: Desk) -> None:
    async with desk.guest(ALICE) as alice:
        await ask(alice, Message(kind=Kind.PING))
        desk.server.forget([ALICE.peer_id])
        assert list(desk.server._guests) == [ALICE.peer_id]
    desk.server.forget([])
    assert not desk.server._guests


async def test_stopping_resets_what_is_being_served_and_serves_nobody_more(
    autojump_clock: MockClock, desk: Desk
) -> None:
    async with desk.guest(ALICE) as alice:
        async with alice.open_stream(BOB.peer_id, KAD) as stream:
            await wait_all_tasks_blocked()
            desk.server.stop()
            with pytest.raises(StreamReset):
                await stream.read()
        with pytest.raises(PeerError):
            await ask(alice, Message(kind=Kind.PING))
