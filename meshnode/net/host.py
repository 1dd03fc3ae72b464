"""The only door to libp2p: TCP, noise and yamux, behind the guards of :mod:`meshnode.net.guards`.

Streams and links keep the contract of :mod:`meshnode.net.transport`. What libp2p raises is translated here. Finding
peers (DHT, mDNS, UPnP) is not this module's: it opens, listens, dials and closes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import structlog
import trio
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.protocol_muxer.exceptions import ProtocolNotSupportedError
from libp2p.rcmgr import Direction
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types

from meshnode.domain import PeerId
from meshnode.errors import (
    InternalFault,
    Overloaded,
    ProtocolViolation,
    Unreachable,
)
from meshnode.identity import Identity
from meshnode.net import guards
from meshnode.net.addressbook import MOST_ADDRESSES, AddressBook, believed, is_local
from meshnode.net.doorkeeper import Gate, everybody, nobody
from meshnode.net.host_stream import HostStream, select
from meshnode.net.listening import claim
from meshnode.net.serving import Slots, report
from meshnode.net.serving import serve as serve_stream
from meshnode.net.swarm import Changes, build, check_listening, keep_door, swarm_of
from meshnode.net.transport import (
    Address,
    Handler,
    Limits,
    Link,
    Stream,
    parse_address,
    parse_dial,
    parse_listen,
)

log = structlog.get_logger()

_REMEMBERED_S = 24 * 3600  # how long an address that worked is kept
_PING_BYTES = 32
_MOST_DIALLED = 2 * MOST_ADDRESSES  # of one peer at a time
_HEAD_START_S = 0.25


@asynccontextmanager
async def open_host(
    identity: Identity,
    listen: Sequence[str],
    *,
    psk: bytes | None = None,
    announce: Sequence[str] = (),
    limits: Limits | None = None,
    admits: Callable[[str], bool] = everybody,
    blocked: Callable[[PeerId], bool] = nobody,
) -> AsyncIterator[Host]:
    """A libp2p host that listens on ``listen`` (multiaddrs; port 0 lets the system choose; empty: dial only).

    ``psk`` is a private network's key of 32 bytes: nobody without it gets past the first byte. ``announce`` replaces
    the addresses that peers are told. ``admits`` says of the IP address of each inbound connection whether it is served
    at all, ``blocked`` of a peer whether connections and streams with it are dropped and dials refused (Unreachable):
    :class:`meshnode.net.doorkeeper.Doorkeeper` is both. Raises ConfigError (an address or the key is wrong), PortInUse.
    On leaving, the port is free, every connection closed and every task gone.
    """
    guards.install()
    bounds = limits or Limits()
    addresses = [parse_listen(text) for text in listen]
    for address in addresses:
        claim(address)
    host = build(identity, psk, [parse_address(text) for text in announce], bounds)
    failure: Exception | None = None
    async with _running(host, addresses):
        door = Host(identity.peer_id, host, bounds, Gate(admits, blocked, trio.current_time))
        try:
            check_listening(host, addresses)
            yield door
        except Exception as error:  # raised again below: libp2p's nursery would wrap it in a group
            failure = error
        finally:
            with trio.CancelScope(shield=True):
                await door.close()
    if failure is not None:
        raise failure


@asynccontextmanager
async def _running(host: BasicHost, addresses: Sequence[Address]) -> AsyncIterator[None]:
    try:
        async with host.run([Multiaddr(str(address)) for address in addresses]):
            yield
    except ExceptionGroup as error:
        raise InternalFault(f"libp2p failed: {error.exceptions[0]!r:.200}") from error


class Host:
    """A Transport over libp2p. Made by :func:`open_host`."""

    def __init__(self, peer_id: PeerId, host: BasicHost, limits: Limits, gate: Gate) -> None:
        self._peer_id = peer_id
        self._host = host
        self._limits = limits
        self._network = swarm_of(host)
        self._network.set_stream_handler(self._accept)
        self._changes = Changes(limits)
        self._network.register_notifee(self._changes)
        self._gate = gate
        keep_door(self._network, gate)
        self._learned = AddressBook()
        self._proved = AddressBook()
        self._inbound = Slots(limits.inbound_streams)
        self._outbound = Slots(limits.outbound_streams)
        self._dialling: dict[PeerId, trio.Lock] = {}
        self._pings = itertools.count()
        self._closing = False

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where we can be reached, each ending in ``/p2p/<our id>``."""
        return tuple(str(address) for address in self._host.get_addrs())

    @property
    def peers(self) -> frozenset[PeerId]:
        """Peers with a live connection."""
        return frozenset(PeerId(str(peer)) for peer in self._network.connections if self._alive(peer))

    def link(self, peer: PeerId) -> Link | None:
        """How we are connected to ``peer``; None when we are not."""
        for conn in self._alive(_id(peer)):
            muxer = conn.muxed_conn
            if isinstance(muxer, guards.GuardedYamux):
                host, port = muxer.get_remote_address() or ("", 0)
                kind = "ip6" if ":" in host else "ip4"
                outbound = getattr(conn, "direction", None) == Direction.OUTBOUND
                return Link(
                    peer=peer, address=f"/{kind}/{host}/tcp/{port}", outbound=outbound, rtt_s=muxer.rtt() or None
                )
        return None

    async def wait_change(self, seen: frozenset[PeerId]) -> frozenset[PeerId]:
        """The connected peers, as soon as they differ from ``seen``."""
        while (now := self.peers) == seen:
            await self._changes.event.wait()
        return now

    async def connect(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>`` unless we are. Raises ConfigError, Unreachable."""
        target, peer = parse_dial(address)
        await self._reach(peer, [target.dialled])
        return peer

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Note addresses at which ``peer`` may be dialled."""
        self._learned.learn(peer, addresses)

    async def reach(self, peer: PeerId) -> None:
        """Connect to ``peer`` where it is known or said to be, unless we are. Raises Unreachable."""
        await self._reach(peer, [] if self._alive(_id(peer)) else self._dialable(peer))

    def known(self, peer: PeerId) -> tuple[str, ...]:
        """Where ``peer`` was reached, and where it says that it listens."""
        return tuple(self._known(peer))

    async def disconnect(self, peer: PeerId) -> None:
        """Drop every connection to ``peer``."""
        await self._network.close_peer(_id(peer))

    @asynccontextmanager
    async def open_stream(self, peer: PeerId, protocol: str) -> AsyncIterator[Stream]:
        """A stream to ``peer``. Raises Unreachable, ProtocolViolation, Overloaded."""
        with self._outbound.hold(peer):
            await self.reach(peer)
            stream = await self._negotiated(peer, protocol)
            try:
                yield stream
                await stream.close()
            finally:
                # Does nothing to a closed stream (guard 7). It shields itself; a write that stands still is given up.
                await stream.reset()  # noqa: ASYNC102

    def set_handler(self, protocol: str, handler: Handler) -> None:
        """Serve inbound streams of ``protocol``."""

        async def serve(net: INetStream) -> None:
            await serve_stream(handler, HostStream(net, PeerId(str(net.muxed_conn.peer_id)), protocol))

        self._host.set_stream_handler(TProtocol(protocol), serve)

    def remove_handler(self, protocol: str) -> None:
        """Serve ``protocol`` no longer."""
        self._host.remove_stream_handler(TProtocol(protocol))

    async def ping(self, peer: PeerId) -> float:
        """Seconds to ``peer`` and back. Raises Unreachable."""
        sent = next(self._pings).to_bytes(_PING_BYTES, "big")
        async with self.open_stream(peer, PING) as stream:
            start = trio.current_time()
            await stream.write(sent)
            back = b""
            while len(back) < _PING_BYTES:
                piece = await stream.read(_PING_BYTES - len(back))
                if not piece:
                    raise Unreachable(f"{peer} ended a ping early.")
                back += piece
            if back != sent:
                raise ProtocolViolation(f"{peer} answered a ping with other bytes.")
            return trio.current_time() - start

    async def close(self) -> None:
        """Stop listening and drop all connections, all at once: libp2p sleeps in each (guard 10). Idempotent."""
        if self._closing:
            return
        self._closing = True
        with trio.move_on_after(self._limits.close_timeout_s):
            for listener in list(self._network.listeners.values()):
                await listener.close()
            async with trio.open_nursery() as nursery:
                for conn in self._network.get_connections():
                    nursery.start_soon(_close_quietly, conn)
        with trio.move_on_after(self._limits.close_timeout_s):  # called shielded: a peer that stalls must not hold it
            await self._host.close()

    # --- dialling -------------------------------------------------------------------------------

    def _alive(self, peer: ID) -> list[INetConn]:
        return [conn for conn in self._network.get_connections(peer) if not conn.is_closed]

    def _known(self, peer: PeerId) -> list[str]:
        """Where it was reached, and what it told libp2p of itself, as far as it is to be believed."""
        try:
            said = [str(address) for address in self._host.peerstore.addrs(_id(peer))]
        except PeerStoreError:
            return []
        local = is_local(self, peer) or any(address.loopback for address in self._proved.of(peer))
        return [parse_address(address).dialled for address in believed(peer, said, local=local)]

    def _dialable(self, peer: PeerId) -> list[str]:
        """What proved true first, and of that the latest: a peer moves, and libp2p keeps where it was for a day."""
        learned = [address.dialled for address in self._learned.of(peer)]
        found = dict.fromkeys((*self._known(peer)[-MOST_ADDRESSES:], *learned))
        return [address for address in found if self._gate.lets_out(parse_address(address).host)]

    async def _reach(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Make sure of a connection; whoever else wants the same one waits for the dial under way."""
        self._gate.check(peer)
        if peer == self._peer_id:
            raise Unreachable(f"{peer} is this node itself.")
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                if not self._alive(_id(peer)):
                    await self._dial_any(peer, addresses)
        finally:
            if not lock.locked():
                self._dialling.pop(peer, None)

    async def _dial_any(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Dial in turn, each address getting a head start; the first connection ends the others."""
        failures = [Unreachable(f"{peer} is not connected, and no address of it is known.")]

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                await self._dial(peer, address)
                nursery.cancel_scope.cancel()
            except Unreachable as error:
                failures.append(error)
                failed.set()

        async with trio.open_nursery() as nursery:
            for address in addresses[:_MOST_DIALLED]:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(_HEAD_START_S):
                    await failed.wait()
        if not self._alive(_id(peer)):
            raise failures[-1]

    async def _dial(self, peer: PeerId, address: str) -> None:
        if self._closing:
            raise Unreachable("This node is closing.")
        try:
            with trio.fail_after(self._limits.dial_timeout_s):
                await self._network.dial_addr(Multiaddr(address), _id(peer))
        except trio.TooSlowError as error:
            raise Unreachable(
                f"{peer} did not finish shaking hands at {address} within {self._limits.dial_timeout_s:g} s."
            ) from error
        except Exception as error:
            raise Unreachable(f"{peer} cannot be reached at {address}: {_reason(error)}.") from error
        self._host.peerstore.add_addrs(_id(peer), [Multiaddr(address)], _REMEMBERED_S)
        self._proved.learn(peer, [f"{address}/p2p/{peer}"])

    async def _negotiated(self, peer: PeerId, protocol: str) -> HostStream:
        """A new stream on which the peer agreed to ``protocol``."""
        try:
            # cancelled half-way, libp2p would leak the stream
            with trio.CancelScope(shield=True), trio.fail_after(self._limits.open_timeout_s):
                net = await self._network.new_stream(_id(peer))
        except Exception as error:
            raise Unreachable(f"No stream to {peer} could be opened: {_reason(error)}.") from error
        stream = HostStream(net, peer, protocol)
        agreed = False
        try:
            with trio.fail_after(self._limits.open_timeout_s):
                await select(net, protocol)
            agreed = True
        except ProtocolNotSupportedError as error:
            raise ProtocolViolation(f"{peer} does not speak {protocol}.") from error
        except Exception as error:
            raise stream.failure(f"refused a stream for {protocol}") from error
        finally:
            if not agreed:
                await stream.reset()  # noqa: ASYNC102  shields itself, as above
        net.set_protocol(TProtocol(protocol))
        return stream

    # --- serving --------------------------------------------------------------------------------

    async def _accept(self, net: INetStream) -> None:
        """Serve one inbound stream, whatever happens in it (guard 1), if the peer has not too many."""
        peer = PeerId(str(net.muxed_conn.peer_id))
        served = False
        try:
            if self._gate.bars(peer):
                await self.disconnect(peer)
                return
            with self._inbound.hold(peer):
                await self._host._swarm_stream_handler(net)
            served = True
        except Overloaded:
            log.info("inbound_stream_refused", peer=peer)
        except Exception as error:
            report(peer, str(net.get_protocol()), error)
        finally:
            if not served:
                with trio.CancelScope(shield=True):
                    await net.reset()


def _id(peer: PeerId) -> ID:
    return ID.from_base58(peer)


async def _close_quietly(conn: INetConn) -> None:
    try:
        await conn.close()
    except Exception as error:
        log.debug("connection_close_failed", error=type(error).__name__)


def _reason(error: BaseException) -> str:
    """Why a dial failed, in words for people; libp2p's own are in the chain of causes."""
    chain = list(_causes(error))
    if any(isinstance(one, PeerIDMismatchesPubkey) for one in chain):
        return "somebody else answers there"
    for one in reversed(chain):
        if isinstance(one, OSError) and one.errno:
            return os.strerror(one.errno).lower()
    if any(isinstance(one, trio.TooSlowError) for one in chain):
        return "it took too long"
    if any("limit" in str(one) or "denied" in str(one) for one in chain):
        return "a limit of connections or streams is reached"
    return "the handshake failed; it may be in another private network, keep us out, or be no meshnode"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__
