"""A libp2p host as we want it: what it may use, how much, and what it tells others."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

import trio
from libp2p import new_host
from libp2p.abc import IMuxedConn, INetConn, INetStream, INetwork, INotifee, IRawConnection, ISecureConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.rcmgr import ResourceLimits, ResourceManager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.exceptions import SecurityUpgradeFailure
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types
from multiaddr.utils import get_network_addrs  # type: ignore[import-untyped]  # likewise

from meshnode.domain import PeerId
from meshnode.errors import ConfigError
from meshnode.identity import Identity
from meshnode.net import guards
from meshnode.net.doorkeeper import Gate
from meshnode.net.listening import cannot_listen, spelt_out
from meshnode.net.transport import Address, Limits, parse_address


def build(identity: Identity, psk: bytes | None, announce: list[Address], limits: Limits) -> BasicHost:
    """A host that does nothing of its own accord: no auto-connector, no retries, no memory of failed dials."""
    if psk is not None and len(psk) != 32:
        raise ConfigError(f"The private network's key has {len(psk)} bytes.", hint="It must have 32.")
    keys = create_new_key_pair(identity.peer_seed)
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: Noise(keys, noise_privkey=create_new_x25519_key_pair().private_key)},
        muxer_opt={TProtocol(YAMUX): guards.GuardedYamux},
        transports=[TCP()],
        psk=None if psk is None else psk.hex(),
        connection_config=ConnectionConfig(
            max_connections=limits.connections,
            min_connections=0,
            low_watermark=0,
            high_watermark=limits.connections,
            max_connections_per_peer=limits.connections_per_peer,
            dial_timeout=limits.dial_timeout_s,
        ),
        resource_manager=_resources(limits),
        addrs_factory=lambda candidates: _announced(candidates, announce),
        # what peers claim to see is not ours to announce before it has been judged
        disable_identify_address_discovery=True,
    )
    if not isinstance(host, BasicHost):
        raise TypeError(type(host))
    network = swarm_of(host)
    network.retry_config = RetryConfig(max_retries=0)
    network.auto_connector.maybe_connect = _stay  # type: ignore[method-assign]  # guard 12: low watermarks do not stop it
    network._negative_peer_cache._ttl = 0.0  # guard 11: when to try again is decided above this room
    _give_places_back(network)
    return host


def _give_places_back(network: Swarm) -> None:
    """Have who serves a connection that came in leave when it is over, and free its place (guard 20).

    libp2p has it wait for the end of the swarm once the connection is set up, unless that failed.
    """
    upgrade = network.upgrade_inbound_raw_conn

    async def upgraded(raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        conn = await upgrade(raw_conn, maddr)
        if isinstance(conn, guards.GuardedYamux):
            await conn.event_shutting_down.wait()
        raise SwarmException("the connection is over")

    network.upgrade_inbound_raw_conn = upgraded  # type: ignore[method-assign]


async def _stay() -> None:
    """Connect to nobody."""


def _resources(limits: Limits) -> ResourceManager:
    return ResourceManager(
        limits=ResourceLimits(max_connections=limits.connections, max_streams=limits.streams),
        connection_limits=ConnectionLimits(
            max_pending_inbound=64,
            max_pending_outbound=64,
            max_established_inbound=limits.connections,
            max_established_outbound=limits.connections,
            max_established_per_peer=limits.connections_per_peer,
            max_established_total=limits.connections,
        ),
        enable_metrics=False,
        enable_circuit_breaker=False,
        enable_graceful_degradation=False,
    )


def swarm_of(host: BasicHost) -> Swarm:
    """The host's network, as the class it is."""
    network = host.get_network()
    if not isinstance(network, Swarm):
        raise TypeError(type(network))
    return network


def keep_door(network: Swarm, gate: Gate) -> None:
    """Ask ``gate`` about each inbound connection before a byte of it is read, and about each peer that proved its key.

    libp2p's own gate knows addresses only, and asks the same for dials.
    """
    serve, secure = network._handle_inbound_connection, network.upgrader.upgrade_security

    async def accepted(read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        remote = read_write_closer.get_remote_address()
        if remote is not None and gate.lets_in(remote[0]):
            await serve(read_write_closer, maddr)
        else:
            await read_write_closer.close()

    async def secured(raw_conn: IRawConnection, is_initiator: bool, peer_id: ID | None = None) -> ISecureConn:
        conn = await secure(raw_conn, is_initiator, peer_id)
        if gate.bars(PeerId(str(conn.get_remote_peer()))):
            await conn.close()
            raise SecurityUpgradeFailure("blocked")
        return conn

    network._handle_inbound_connection = accepted  # type: ignore[method-assign]
    network.upgrader.upgrade_security = secured  # type: ignore[method-assign]


def own_addresses() -> frozenset[str]:
    """The IP addresses of this machine's interfaces as they are now, without loopback and link-local ones."""
    return frozenset((*get_network_addrs(4), *get_network_addrs(6)))


def check_listening(host: BasicHost, addresses: Sequence[Address]) -> None:
    """libp2p goes on when some address cannot be had; we do not."""
    for address in addresses:
        if str(Multiaddr(str(address))) not in swarm_of(host).listeners:
            raise cannot_listen(address, OSError(errno.EADDRINUSE, "taken meanwhile"))


def _announced(candidates: Iterable[Multiaddr], announce: list[Address]) -> list[Multiaddr]:
    """The addresses to tell peers: the configured ones, else the bound ones with ``0.0.0.0`` and ``::`` spelt out."""
    if announce:
        return [Multiaddr(address.dialled) for address in announce]
    bound = [parse_address(str(candidate)) for candidate in candidates]
    found = {kind: get_network_addrs(version) for kind, version in (("ip4", 4), ("ip6", 6))}
    concrete = dict.fromkeys(str(one) for address in bound for one in spelt_out(address, found[address.kind]))
    return [Multiaddr(text) for text in concrete]


class Changes(INotifee):
    """Wakes whoever waits for connections to come and go."""

    def __init__(self, limits: Limits) -> None:
        self.event = trio.Event()
        self._limits = limits

    def _changed(self) -> None:
        self.event.set()
        self.event = trio.Event()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """A connection is there: give it our patience."""
        muxer = conn.muxed_conn
        if isinstance(muxer, guards.GuardedYamux):
            muxer.keepalive_s, muxer.silence_s = self._limits.keepalive_s, self._limits.silence_s
        self._changed()

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """A connection is gone."""
        self._changed()

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not our concern."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Not our concern."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not our concern."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Not our concern."""
