"""How the libp2p host is set up."""

from __future__ import annotations

import socket

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX

from meshnode.errors import ConfigError, PortInUse
from meshnode.net import guards
from meshnode.net.doorkeeper import Gate, nobody
from meshnode.net.swarm import build, check_listening, keep_door, own_addresses, swarm_of
from meshnode.net.transport import Limits, parse_address, parse_listen
from tests.kit.peers import ALICE


async def test_it_has_one_way_to_encrypt_and_one_to_share_a_connection() -> None:
    network = swarm_of(build(ALICE, None, [], Limits()))
    assert list(network.upgrader.security_multistream.transports) == ["/noise"]
    assert dict(network.upgrader.muxer_multistream.transports) == {YAMUX: guards.GuardedYamux}
    assert [type(transport).__name__ for transport in network.transport_manager.get_transports()] == ["TCP"]


async def test_the_limits_are_those_given() -> None:
    network = swarm_of(build(ALICE, None, [], Limits(connections=7, connections_per_peer=2, streams=11)))
    assert (network.connection_config.max_connections, network.connection_config.max_connections_per_peer) == (7, 2)
    manager = network._resource_manager
    assert manager is not None
    assert (manager.limits.max_connections, manager.limits.max_streams) == (7, 11)
    assert manager.connection_limits.max_established_per_peer == 2


async def test_it_neither_retries_nor_remembers_failures() -> None:
    network = swarm_of(build(ALICE, None, [], Limits()))
    assert network.retry_config.max_retries == 0
    network._negative_peer_cache.mark_failed("anybody")
    assert not network._negative_peer_cache.is_blocked("anybody")


async def test_the_private_key_reaches_it() -> None:
    assert swarm_of(build(ALICE, b"k" * 32, [], Limits())).psk == (b"k" * 32).hex()
    with pytest.raises(ConfigError, match="33 bytes"):
        build(ALICE, b"k" * 33, [], Limits())


async def test_announced_addresses_are_ours() -> None:
    host = build(ALICE, None, [parse_address("/ip4/198.51.100.7/tcp/9338")], Limits())
    assert [str(address) for address in host.get_addrs()] == [f"/ip4/198.51.100.7/tcp/9338/p2p/{ALICE.peer_id}"]


async def test_an_address_that_libp2p_let_go_is_not_let_go() -> None:
    with pytest.raises(PortInUse):
        check_listening(build(ALICE, None, [], Limits()), [parse_listen("/ip4/127.0.0.1/tcp/9338")])


async def test_who_has_no_address_any_more_is_not_asked_about() -> None:
    """A socket that broke before it was looked at: it is dropped whoever it was."""

    class Gone:
        closed = False

        def get_remote_address(self) -> None:
            return None

        async def close(self) -> None:
            self.closed = True

    network = swarm_of(build(ALICE, None, [], Limits()))
    keep_door(network, Gate(lambda host: True, nobody, trio.current_time))
    gone = Gone()
    await network._handle_inbound_connection(gone, "/ip4/127.0.0.1/tcp/1")  # type: ignore[arg-type]
    assert gone.closed


def test_our_addresses_are_those_that_we_come_from() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            assert not [address for address in own_addresses() if "." in address]
        else:
            assert probe.getsockname()[0] in own_addresses()
    assert not {"127.0.0.1", "::1", "0.0.0.0"} & own_addresses()
