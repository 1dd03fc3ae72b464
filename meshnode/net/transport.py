"""What a road to peers looks like, whoever builds it: streams, links, addresses and their bounds.

Two implementations keep this contract: :mod:`meshnode.net.host` (libp2p over TCP) and :mod:`meshnode.net.memory`
(in one process, on a virtual clock). One suite runs on both.

Rules that both keep:

- A stream that ends well is ended by both sides; an end that was not asked for is never silent: a lost
  connection raises Unreachable, a stream that the peer gave up raises StreamReset. Even so an end of
  stream proves little: close every exchange with a message of its own.
- A writer waits while its reader does not read; each stream holds a bounded number of bytes.
- Leaving ``async with transport.open_stream(...)`` by an exception or a cancellation resets the stream, so that
  the peer learns of it; leaving it normally closes it.
- An exception in a handler resets that stream and is logged; it never reaches the other streams.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from meshnode.domain import PeerId, Record
from meshnode.errors import ConfigError
from meshnode.identity import public_key_of

CHUNK = 65536
"""Bytes that ``read`` returns at most unless told otherwise."""


class Limits(Record, frozen=True):
    """Bounds of a transport. Times in seconds.

    ``inbound_streams`` and ``outbound_streams`` count per peer; ``streams`` counts all. A link on which nothing was
    heard for ``keepalive_s`` is asked for a sign of life (by who dialled; the other waits a quarter longer) and dropped
    when none comes within ``silence_s``. With 200 idle links this costs about 1 % of a core.
    """

    connections: int = 512
    connections_per_peer: int = 8
    inbound_streams: int = 64
    outbound_streams: int = 128
    streams: int = 4096
    dial_timeout_s: float = 10.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    keepalive_s: float = 8.0
    silence_s: float = 5.0


class Link(Record, frozen=True):
    """A connection to a peer as it stands now; ``address`` is the remote end, ``rtt_s`` is None until measured."""

    peer: PeerId
    address: str
    outbound: bool
    rtt_s: float | None = None


class Stream(Protocol):
    """Bytes both ways between two peers, in order, encrypted where the transport is a real one."""

    @property
    def peer(self) -> PeerId:
        """Who is at the other end; proved by its key."""

    @property
    def protocol(self) -> str:
        """What was agreed when the stream was opened."""

    async def read(self, limit: int = CHUNK) -> bytes:
        """Between 1 and ``limit`` bytes as they come, or ``b""`` once the peer has ended its side.

        Raises StreamReset when the peer gave the stream up, Unreachable when the connection was lost, and
        trio.ClosedResourceError when this side closed or reset it.
        """

    async def write(self, data: bytes) -> None:
        """Send all of ``data``, waiting while the peer does not read. Raises as ``read`` does."""

    async def close_write(self) -> None:
        """End our side; the peer reads ``b""`` after all that was written. Reading goes on. Idempotent."""

    async def close(self) -> None:
        """End both sides: the peer still gets all that was written; what it writes from now on fails. Idempotent."""

    async def reset(self) -> None:
        """Give the stream up: the peer gets StreamReset, bytes on the way are lost. Idempotent; never raises."""


Handler = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream. When it returns the stream is closed, when it raises it is reset."""


class Transport(Protocol):
    """The road to peers."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where we can be reached: whole multiaddrs that end in ``/p2p/<our id>``."""

    @property
    def peers(self) -> frozenset[PeerId]:
        """Peers with a live connection."""

    def link(self, peer: PeerId) -> Link | None:
        """How we are connected to ``peer``; None when we are not."""

    async def wait_change(self, seen: frozenset[PeerId]) -> frozenset[PeerId]:
        """The connected peers, as soon as they differ from ``seen``. Nothing is missed between two calls but a flap."""

    async def connect(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>`` unless we are, and say who it is.

        Raises ConfigError when the address is no such address, Unreachable when nobody, somebody else, or a node of
        another private network answers there.
        """

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Note where ``peer`` is said to be: ``…/p2p/<peer>``, for ``reach`` and ``open_stream`` to try.

        Neither dials what the door does not admit; ``connect`` does, for it is the owner who names an address.

        What is malformed, names another peer, or cannot be dialled (port 0, all interfaces) is dropped without a word.
        Of each peer the latest 8 are kept.
        """

    async def reach(self, peer: PeerId) -> None:
        """Connect to ``peer`` at an address that is known or was learned, unless we are. Raises Unreachable."""

    def known(self, peer: PeerId) -> tuple[str, ...]:
        """Where ``peer`` was reached, and where it says that it listens: multiaddrs, whole or without the peer."""

    async def disconnect(self, peer: PeerId) -> None:
        """Drop every connection to ``peer``; its streams raise Unreachable on both sides."""

    def open_stream(self, peer: PeerId, protocol: str) -> AbstractAsyncContextManager[Stream]:
        """A stream to ``peer``, dialled when not connected: at an address that worked, that it told us, or learned.

        Entering raises Unreachable, ProtocolViolation when the peer does not speak ``protocol``, or Overloaded
        when too many streams to it are open.
        """

    def set_handler(self, protocol: str, handler: Handler) -> None:
        """Serve inbound streams of ``protocol``; the latest handler counts."""

    def remove_handler(self, protocol: str) -> None:
        """Serve ``protocol`` no longer; streams that are open go on."""

    async def ping(self, peer: PeerId) -> float:
        """Seconds to ``peer`` and back, measured now. Raises Unreachable."""

    async def close(self) -> None:
        """Stop listening, drop all connections. Leaving the context manager that opened the transport does this too."""


class Address(NamedTuple):
    """A multiaddr to listen on or dial: ``/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>[/p2p/<id>]``."""

    kind: str
    host: str
    port: int
    peer: PeerId | None = None

    def __str__(self) -> str:
        suffix = f"/p2p/{self.peer}" if self.peer else ""
        return f"/{self.kind}/{self.host}/tcp/{self.port}{suffix}"

    @property
    def dialled(self) -> str:
        """The part before ``/p2p/``: what is connected to, whoever answers."""
        return str(self._replace(peer=None))

    @property
    def unspecified(self) -> bool:
        """Whether it stands for every address of this machine (``0.0.0.0``, ``::``)."""
        return self.kind in _IP and ip_of(self.host).is_unspecified

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.kind in _IP:
            return ip_of(self.host).is_loopback
        return re.fullmatch(r"(.+\.)?localhost\.?", self.host.lower()) is not None  # RFC 6761


_IP = {"ip4": 4, "ip6": 6}
_KINDS = (*_IP, "dns", "dns4", "dns6")
_HOSTNAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62}\.?)*")
_EXAMPLE = "/ip4/192.0.2.7/tcp/9338"


def parse_address(text: str) -> Address:
    """Take a multiaddr apart. Raises ConfigError that says what is wrong with it."""
    parts = text.split("/")
    if len(parts) not in (5, 7) or parts[0] or parts[1] not in _KINDS or parts[3] != "tcp":
        raise _bad(text, f"an address looks like {_EXAMPLE}, or with /p2p/<peer id> behind it")
    kind, host, port = parts[1], parts[2], parts[4]
    if not _host_ok(kind, host):
        raise _bad(text, f"{host[:64]!r} is no {'host name' if kind not in _IP else kind + ' address'}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise _bad(text, f"{port[:16]!r} is no port; ports are 0 to 65535")
    if len(parts) == 5:
        return Address(kind, host, int(port))
    if parts[5] != "p2p":
        raise _bad(text, "only /p2p/<peer id> can follow the port")
    try:
        public_key_of(parts[6])
    except ValueError as error:
        raise _bad(text, f"the peer id is wrong: {error}") from error
    return Address(kind, host, int(port), PeerId(parts[6]))


def parse_listen(text: str) -> Address:
    """An address to listen on: an IP address of this machine and a port. Raises ConfigError."""
    address = parse_address(text)
    if address.kind not in _IP or address.peer is not None:
        raise _bad(text, "listening takes an IP address and a port, without /p2p/", example="/ip4/0.0.0.0/tcp/9338")
    return address


def parse_dial(text: str) -> tuple[Address, PeerId]:
    """An address to dial, and whom to expect there. Raises ConfigError, also when the peer id is missing."""
    address = parse_address(text)
    if address.peer is None:
        raise _bad(
            text, "it must end in /p2p/<peer id>: without it anybody could answer", example=f"{_EXAMPLE}/p2p/12D3…"
        )
    if address.port == 0 or address.unspecified:
        raise _bad(text, "nobody can be dialled there")
    return address, address.peer


def ip_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """IPv4 in IPv6's clothes (``::ffff:…``, RFC 4291) is what it is: it is dialled as IPv4."""
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _host_ok(kind: str, host: str) -> bool:
    if kind not in _IP:
        return _HOSTNAME.fullmatch(host) is not None
    try:
        return "%" not in host and ipaddress.ip_address(host).version == _IP[kind]
    except ValueError:
        return False


def _bad(text: str, reason: str, *, example: str = _EXAMPLE) -> ConfigError:
    return ConfigError(f"{text[:200]!r} is not an address meshnode can use: {reason}.", hint=f"For example {example}")
