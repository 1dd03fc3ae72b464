"""Kademlia's messages on a stream: libp2p's own protobuf behind a length, bounded (libp2p specification, "kad-dht")."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from libp2p.kad_dht.pb.kademlia_pb2 import Message as Packed
from libp2p.peer.id import ID
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types

from meshnode.domain import PeerId, Record
from meshnode.errors import ProtocolViolation
from meshnode.identity import public_key_of
from meshnode.net.directory import Hint
from meshnode.net.provider_records import usable
from meshnode.net.transport import Stream, parse_address

MOST_BYTES = 65_536
"""The longest message that is read (threats, row 19)."""
MOST_KEY = 128
_MOST_PEERS = 20
_LENGTH_BYTES = 3  # a varint of 64 KiB


class Kind(enum.IntEnum):
    """What a message is; the numbers are the specification's. Values are not kept here, so their kinds are unknown."""

    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


class Message(Record, frozen=True):
    """A question or its answer: ``closer`` peers to ask, and ``providers`` of the key."""

    kind: Kind
    key: bytes = b""
    closer: tuple[Hint, ...] = ()
    providers: tuple[Hint, ...] = ()


def encode(message: Message) -> bytes:
    """The bytes of a message, its length in front. Addresses that no multiaddr can hold are left out."""
    packed = Packed()
    packed.type = int(message.kind)  # type: ignore[assignment]  # an enumeration only to the type checker
    packed.key = message.key
    for field, hints in ((packed.closerPeers, message.closer), (packed.providerPeers, message.providers)):
        for hint in hints:
            peer = field.add()
            peer.id = ID.from_base58(hint.peer).to_bytes()
            peer.addrs.extend(Multiaddr(parse_address(text).dialled).to_bytes() for text in hint.addresses)
    body = packed.SerializeToString()
    return _varint(len(body)) + body


def decode(body: bytes, *, local: bool) -> Message:
    """The message in ``body``; ``local``: it came over loopback. Raises ProtocolViolation.

    Peers and addresses that are no use to us (other kinds of key, other transports) are left out.
    """
    try:
        packed = Packed.FromString(body)
    except DecodeError as error:
        raise ProtocolViolation("A message of the DHT cannot be read.") from error
    try:
        kind = Kind(packed.type)
    except ValueError as error:
        raise ProtocolViolation(f"A message of the DHT is of kind {packed.type}, which is not served here.") from error
    if len(packed.key) > MOST_KEY:
        raise ProtocolViolation(f"A key of the DHT has {len(packed.key)} bytes, {MOST_KEY} are allowed.")
    return Message(
        kind=kind,
        key=packed.key,
        closer=tuple(_hints(packed.closerPeers, local=local)),
        providers=tuple(_hints(packed.providerPeers, local=local)),
    )


class Reader:
    """Messages from a stream, one after another."""

    def __init__(self, stream: Stream, *, local: bool) -> None:
        self._stream = stream
        self._local = local
        self._buffer = bytearray()

    async def next(self) -> Message | None:
        """The next message, or None at a clean end. Raises ProtocolViolation, and as ``Stream.read`` does."""
        length = await self._length()
        if length is None:
            return None
        if length > MOST_BYTES:
            raise ProtocolViolation(f"{self._stream.peer} sends a message of {length} bytes, {MOST_BYTES} are allowed.")
        while len(self._buffer) < length:
            await self._more()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return decode(body, local=self._local)

    async def _length(self) -> int | None:
        if not self._buffer:
            data = await self._stream.read()
            if not data:
                return None
            self._buffer += data
        length = 0
        for index in range(_LENGTH_BYTES):
            if len(self._buffer) <= index:
                await self._more()
            length |= (self._buffer[index] & 0x7F) << 7 * index
            if self._buffer[index] < 0x80:
                del self._buffer[: index + 1]
                return length
        raise ProtocolViolation(f"{self._stream.peer} sends a message of more than {MOST_BYTES} bytes.")

    async def _more(self) -> None:
        data = await self._stream.read()
        if not data:
            raise ProtocolViolation(f"{self._stream.peer} ended within a message.")
        self._buffer += data


def _hints(peers: Iterable[Packed.Peer], *, local: bool) -> Iterable[Hint]:
    for packed in list(peers)[:_MOST_PEERS]:
        try:
            peer = PeerId(ID(packed.id).to_base58())
            public_key_of(peer)
        except ValueError:
            continue
        yield Hint(peer=peer, addresses=usable(peer, _texts(packed.addrs), local=local))


def _texts(raw: Iterable[bytes]) -> Iterable[str]:
    for one in list(raw)[:_MOST_PEERS]:
        try:
            yield str(Multiaddr(one))
        except Exception:  # the library raises whatever its codecs do
            continue


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
