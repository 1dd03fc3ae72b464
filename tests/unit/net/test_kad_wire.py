"""The DHT's messages: what is written can be read, and nothing that is read can hurt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.kad_dht.pb.kademlia_pb2 import Message as Packed

from meshnode.domain import PeerId
from meshnode.errors import ProtocolViolation
from meshnode.net.directory import Hint
from meshnode.net.kad_wire import MOST_BYTES, Kind, Message, Reader, decode, encode
from meshnode.net.memory import open_network
from meshnode.net.transport import Stream
from tests.kit.peers import ALICE, BOB, CAROL, identity

WHO = [ALICE.peer_id, BOB.peer_id, CAROL.peer_id]


def hint(peer: PeerId, *addresses: str) -> Hint:
    """A hint at whole addresses."""
    return Hint(peer=peer, addresses=tuple(f"{address}/p2p/{peer}" for address in addresses))


HINTS = st.builds(
    lambda peer, hosts: hint(peer, *dict.fromkeys(f"/ip4/198.51.100.{host}/tcp/9338" for host in hosts)),
    st.sampled_from(WHO),
    st.lists(st.integers(1, 254), max_size=3),
)
MESSAGES = st.builds(
    lambda kind, key, closer, providers: Message(kind=kind, key=key, closer=tuple(closer), providers=tuple(providers)),
    st.sampled_from(Kind),
    st.binary(max_size=128),
    st.lists(HINTS, max_size=20),
    st.lists(HINTS, max_size=20),
)


class Canned:
    """A stream to read from; the pieces come as they were given."""

    peer = BOB.peer_id
    protocol = "/test/1"

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)

    async def read(self, limit: int = 65536) -> bytes:
        """The next piece, and then the end."""
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data: bytes) -> None:
        """Nobody reads."""

    async def close_write(self) -> None:
        """Nothing to end."""

    async def close(self) -> None:
        """Nothing to close."""

    async def reset(self) -> None:
        """Nothing to give up."""


def reader(*pieces: bytes) -> Reader:
    """Reads what comes in pieces."""
    stream: Stream = Canned([piece for piece in pieces if piece])
    return Reader(stream, local=False)


@given(st.lists(MESSAGES, max_size=3), st.integers(1, 500))
async def test_what_is_written_is_read_however_it_is_cut(messages: list[Message], size: int) -> None:
    data = b"".join(map(encode, messages))
    source = reader(*(data[start : start + size] for start in range(0, len(data), size)))
    for message in messages:
        assert await source.next() == message
    assert await source.next() is None


@given(st.binary(max_size=300))
@settings(max_examples=2000)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """2,000 cases of bytes; those below are messages with a hole."""
    with_outcome(body)


@given(MESSAGES, st.data())
@settings(max_examples=500)
def test_any_broken_message_is_read_or_refused(message: Message, data: st.DataObject) -> None:
    body = bytearray(encode(message)[2:])
    for _ in range(data.draw(st.integers(1, 4))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with_outcome(bytes(body))


def with_outcome(body: bytes) -> None:
    """Read it: either a message within bounds, or a violation."""
    try:
        message = decode(body, local=False)
    except ProtocolViolation:
        return
    assert len(message.key) <= 128
    assert len(message.closer) <= 20
    assert len(message.providers) <= 20


@pytest.mark.parametrize("length", [b"\x80\x80\x04", b"\x81\x80\x04", b"\xff\xff\xff\xff\x7f", b"\x80" * 20])
async def test_a_message_that_says_to_be_too_long_is_not_waited_for(length: bytes) -> None:
    at_most = length == b"\x80\x80\x04"  # 65,536, which is allowed: what is missing is the message
    with pytest.raises(ProtocolViolation, match="ended within" if at_most else "bytes"):
        await reader(length, b"x").next()


async def test_a_message_that_breaks_off_is_no_end() -> None:
    data = encode(Message(kind=Kind.FIND_NODE, key=b"k" * 100))
    for cut in range(1, len(data)):
        with pytest.raises(ProtocolViolation, match="ended within"):
            await reader(data[:cut]).next()


@pytest.mark.parametrize("kind", [0, 1, 17])
def test_values_and_unknown_kinds_are_refused(kind: int) -> None:
    packed = Packed(key=b"k")
    packed.type = kind  # type: ignore[assignment]  # an enumeration only to the type checker
    with pytest.raises(ProtocolViolation):
        decode(packed.SerializeToString(), local=False)


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(ProtocolViolation, match="129 bytes"):
        decode(Packed(type=Packed.MessageType.FIND_NODE, key=b"k" * 129).SerializeToString(), local=False)


def test_what_is_no_use_to_us_is_left_out() -> None:
    packed = Packed(type=Packed.MessageType.FIND_NODE, key=b"k")
    for raw in (
        b"",
        b"not an id",
        bytes.fromhex("1220") + bytes(32),
        bytes.fromhex("002408011220") + ALICE.peer_public,
    ):
        peer = packed.closerPeers.add()
        peer.id = raw
        peer.addrs.extend([b"", b"\xff\xff", bytes.fromhex("04c6336407062479"), bytes.fromhex("047f000001060016")])
    message = decode(packed.SerializeToString(), local=False)
    assert message.closer == (hint(ALICE.peer_id, "/ip4/198.51.100.7/tcp/9337"),)
    assert len(decode(packed.SerializeToString(), local=True).closer[0].addresses) == 2


def test_only_twenty_peers_are_read() -> None:
    packed = Packed(type=Packed.MessageType.FIND_NODE, key=b"k")
    for number in range(50):
        peer = packed.closerPeers.add()
        peer.id = bytes.fromhex("002408011220") + identity(f"{number}").peer_public
    assert len(decode(packed.SerializeToString(), local=False).closer) == 20


def test_the_longest_answer_of_ours_can_be_read() -> None:
    addresses = [f"/dns4/{'x' * 40}{part}.example/tcp/9338" for part in range(2)]
    every = tuple(hint(identity(f"{number}").peer_id, *addresses) for number in range(20))
    data = encode(Message(kind=Kind.GET_PROVIDERS, key=b"k" * 128, closer=every, providers=every))
    assert len(data) < MOST_BYTES // 4


@pytest.fixture
async def streams() -> AsyncIterator[trio.MemoryReceiveChannel[Message | None]]:
    """What a host in memory reads of what another one wrote."""
    send, receive = trio.open_memory_channel[Message | None](10)

    async def serve(stream: Stream) -> None:
        source = Reader(stream, local=False)
        while (message := await source.next()) is not None:
            await send.send(message)
        await send.send(None)

    async with (
        open_network() as network,
        network.open_host(ALICE, []) as alice,
        network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
    ):
        bob.set_handler("/test/1", serve)
        await alice.connect(bob.addresses[0])
        async with alice.open_stream(BOB.peer_id, "/test/1") as stream:
            await stream.write(encode(Message(kind=Kind.PING)) * 3)
            await stream.close_write()
            yield receive


async def test_messages_cross_a_stream(streams: trio.MemoryReceiveChannel[Message | None]) -> None:
    got = [await streams.receive() for _ in range(4)]
    assert got == [Message(kind=Kind.PING)] * 3 + [None]
