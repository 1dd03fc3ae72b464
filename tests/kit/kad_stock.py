"""Stock py-libp2p's Kademlia in every situation that ours is made for: ``python -m tests.kit.kad_stock``.

It prints one JSON object, the trap's number to whether all went well. A true means that this release mended it. Run as
a process of its own, on hosts without guards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence

import trio
import varint  # type: ignore[import-untyped]  # ships no types; libp2p's own way to write a length
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.kad_dht.provider_store import ProviderRecord
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types

from tests.kit.libp2p_stock import connect, host

KEY = bytes.fromhex("0022") + bytes(32) + bytes((1, 0))


def served(one: IHost) -> KadDHT:
    """A node of the DHT on a host; it serves from now on."""
    return KadDHT(one, DHTMode.SERVER, strict_validation=True)


def info(number: int) -> PeerInfo:
    """Some peer, with an address."""
    peer = ID.from_pubkey(create_new_key_pair((b"%d" % number).ljust(32)).public_key)
    return PeerInfo(peer, [Multiaddr(f"/ip4/192.0.2.1/tcp/{number + 1}")])


async def prefix_of_its_own() -> bool:
    """1: a prefix that is asked for is served."""
    async with host(b"a") as near, host(b"b") as far:
        KadDHT(far, DHTMode.SERVER, protocol_prefix=TProtocol("/meshnode"))
        await connect(near, far)
        try:
            await near.new_stream(far.get_id(), [TProtocol("/meshnode/kad/1.0.0")])
        except Exception:
            return False
        return True


async def fifteen_keys() -> bool:
    """2: of 15 keys that were provided all are held by the receiver."""
    async with host(b"a") as near, host(b"b") as far:
        one, other = served(near), served(far)
        await connect(near, far)
        keys = [KEY[:-1] + bytes((number,)) for number in range(15)]
        told = [await one.provider_store.provide(key) for key in keys]
        await trio.sleep(1)
        held = [bool(other.provider_store.get_providers(key)) for key in keys]
        return told == held


async def asks_afresh() -> bool:
    """3: a look-up finds what others hold, also when something is held here."""
    async with host(b"a") as near, host(b"b") as far:
        one, other = served(near), served(far)
        await connect(near, far)
        one.provider_store.add_provider(KEY, info(0))
        for number in range(1, 4):
            other.provider_store.add_provider(KEY, info(number))
        return len(await one.provider_store.find_providers(KEY)) == 4


async def thirty_providers() -> bool:
    """4: all of 30 honest providers of one thing are found."""
    async with host(b"a") as near:
        store = served(near).provider_store
        for number in range(30):
            store.add_provider(KEY, info(number))
        return len(store.get_providers(KEY)) == 30


async def old_records() -> bool:
    """5: what was announced an hour ago, and not since, is gone."""
    async with host(b"a") as near:
        store = served(near).provider_store
        peer = info(0)
        store.providers[KEY] = {str(peer.peer_id): ProviderRecord(peer, time.time() - 3600)}
        return not store.get_providers(KEY)


async def big_values() -> bool:
    """6: 512 KiB of a stranger are not kept (``/pk/`` values have a validator, so a plain key is used)."""
    async with host(b"a") as near, host(b"b") as far:
        KadDHT(near, DHTMode.SERVER)
        other = KadDHT(far, DHTMode.SERVER)
        await connect(near, far)
        question = Message(type=Message.MessageType.PUT_VALUE, key=b"plain")
        question.record.key, question.record.value = b"plain", bytes(1 << 19)
        await tell(near, far, question)
        return other.value_store.get(b"plain") is None


async def many_keys() -> bool:
    """7: of 20,000 keys of one peer not all are kept."""
    async with host(b"a") as near:
        store = served(near).provider_store
        peer = info(0)
        for number in range(20_000):
            store.add_provider(number.to_bytes(36, "big"), peer)
        return store.size() < 20_000


async def long_message() -> bool:
    """8: a message of 2 MiB is not read."""
    async with host(b"a") as near, host(b"b") as far:
        served(near), served(far)
        await connect(near, far)
        question = Message(type=Message.MessageType.FIND_NODE, key=KEY)
        question.record.value = bytes(2 << 20)
        return not await tell(near, far, question)


async def any_shard() -> bool:
    """9: a peer that belongs into another shard is refused."""
    async with host(b"a") as near, host(b"b") as far:
        one, other = served(near), served(far)
        await connect(near, far)
        keys = [KEY[:-2] + bytes((4, shard)) for shard in range(4)]
        for key in keys:
            await one.provider_store.provide(key)

        def held() -> int:
            return sum(bool(other.provider_store.get_providers(key)) for key in keys)

        with trio.move_on_after(5):
            while held() <= 1:  # noqa: ASYNC110  libp2p tells nobody
                await trio.sleep(0.01)
        return held() == 1


async def idle_streams() -> bool:
    """10: while one peer holds idle streams another one is answered."""
    async with host(b"a") as idler, host(b"b") as far, host(b"c") as asker:
        served(far)
        for one in (idler, asker):
            await connect(one, far)
        for _ in range(12):
            await idler.new_stream(far.get_id(), [PROTOCOL_ID])
        await trio.sleep(0.2)
        return await tell(asker, far, Message(type=Message.MessageType.FIND_NODE, key=KEY))


async def only_who_answers() -> bool:
    """11: a peer that asks but does not serve stays out of the routing table."""
    async with host(b"a") as near, host(b"b") as far:
        other = served(far)
        await connect(near, far)
        await trio.sleep(0.2)
        await tell(near, far, Message(type=Message.MessageType.FIND_NODE, key=KEY))
        return other.routing_table.size() == 0


async def who_is_connected() -> bool:
    """12: two nodes that are connected know each other a second later."""
    async with host(b"a") as near, host(b"b") as far:
        one, other = served(near), served(far)
        await connect(near, far)
        await trio.sleep(1)
        return one.routing_table.size() == other.routing_table.size() == 1


async def tell(near: IHost, far: IHost, question: Message) -> bool:
    """Say something to a node; whether it answered."""
    data = question.SerializeToString()
    try:
        with trio.fail_after(15):
            stream = await near.new_stream(far.get_id(), [PROTOCOL_ID])
            await stream.write(varint.encode(len(data)) + data)
            return bool(await stream.read(1))
    except Exception:
        return False


Trap = Callable[[], Awaitable[bool]]
SITUATIONS: Sequence[Trap] = (
    prefix_of_its_own,
    fifteen_keys,
    asks_afresh,
    thirty_providers,
    old_records,
    big_values,
    many_keys,
    long_message,
    any_shard,
    idle_streams,
    only_who_answers,
    who_is_connected,
)


def went_well(trap: Trap) -> bool:
    """Whether a situation ended as it should, within its time. One that raises is wrong itself, and ends the run."""

    async def run() -> bool:
        with trio.move_on_after(20):
            return await trap()
        return False

    return trio.run(run)


if __name__ == "__main__":
    found = {f"{number:02}": went_well(trap) for number, trap in enumerate(SITUATIONS, start=1)}
    print(json.dumps(found))  # noqa: T201  # this is its answer
