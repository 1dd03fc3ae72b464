"""The libp2p host: what it offers to whom, what it listens on, and how it says no."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types
from structlog.testing import capture_logs

from meshnode.errors import ConfigError, Unreachable
from meshnode.net.host import Host, open_host
from meshnode.net.transport import Limits, Stream
from tests.kit.libp2p_traps import free_port
from tests.kit.peers import ALICE, BOB, CAROL

ANY_PORT = ("/ip4/127.0.0.1/tcp/0",)


@pytest.fixture
async def bob() -> AsyncIterator[Host]:
    """A host on loopback."""
    with trio.fail_after(60):
        async with open_host(BOB, ANY_PORT) as host:
            yield host


async def says(host: Host, *words: str) -> list[str]:
    """What a host answers to a dialler that proposes ``words``, one after another, in multistream-select."""
    answers = []
    port = int(host.addresses[0].split("/")[4])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for word in words:
            line = word.encode() + b"\n"
            await stream.send_all(bytes([len(line)]) + line)
            size = (await stream.receive_some(1))[0]
            answer = b""
            while len(answer) < size:
                answer += await stream.receive_some(size - len(answer))
            answers.append(answer.decode().strip())
    return answers


async def test_only_noise_is_offered(bob: Host) -> None:
    """Stock libp2p offers plaintext beside it, and would serve a dialler that takes it."""
    hello = "/multistream/1.0.0"
    answers = await says(bob, hello, "/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0", "/noise")
    assert answers == [hello, "na", "na", "na", "/noise"]


async def test_the_key_is_the_identitys(bob: Host) -> None:
    assert bob.peer_id == BOB.peer_id
    assert str(bob._host.get_id()) == BOB.peer_id
    assert bob._host.get_public_key() == create_new_key_pair(BOB.peer_seed).public_key


async def test_who_identifies_us_learns_our_address_and_protocols(bob: Host) -> None:
    bob.set_handler("/meshnode/test/1", nothing)
    async with open_host(ALICE, ()) as alice:
        await alice.connect(bob.addresses[0])
        async with alice.open_stream(BOB.peer_id, IDENTIFY) as stream:
            said = b""
            while data := await stream.read():
                said += data
    message = parse_identify_response(said)
    assert "/meshnode/test/1" in message.protocols
    assert [str(Multiaddr(raw)) for raw in message.listen_addrs] == [bob.addresses[0].partition("/p2p/")[0]]
    assert alice.addresses == ()


async def nothing(stream: Stream) -> None:
    """Serve nothing."""


async def test_all_interfaces_are_announced_by_their_addresses() -> None:
    async with open_host(BOB, ["/ip4/0.0.0.0/tcp/0"]) as bob:
        assert bob.addresses
        for address in bob.addresses:
            assert "/0.0.0.0/" not in address
            assert address.split("/")[4] != "0"
            assert address.endswith(f"/p2p/{BOB.peer_id}")


async def test_what_is_announced_can_be_told() -> None:
    announce = ["/dns4/bob.example.org/tcp/443", "/ip4/198.51.100.7/tcp/9338"]
    async with open_host(BOB, ANY_PORT, announce=announce) as bob:
        assert bob.addresses == tuple(f"{address}/p2p/{BOB.peer_id}" for address in announce)


@pytest.mark.parametrize(
    "listen", ["", "127.0.0.1:9338", "/ip4/127.0.0.1/udp/1/quic-v1", "/dns4/localhost/tcp/1", "/ip4/192.0.2.1/tcp/9338"]
)
async def test_an_address_that_cannot_be_listened_on_is_named(listen: str) -> None:
    with pytest.raises(ConfigError, match=repr(listen)[1:-1] or "''"):
        async with open_host(BOB, [listen]):
            pass


async def test_ipv6_and_ipv4_side_by_side() -> None:
    port = free_port()
    async with open_host(BOB, [f"/ip4/127.0.0.1/tcp/{port}", f"/ip6/::1/tcp/{port}"]) as bob:
        assert len(bob.addresses) == 2
        for address in bob.addresses:
            async with open_host(ALICE, ()) as alice:
                await alice.connect(address)
                link = alice.link(BOB.peer_id)
                assert link is not None
                assert address.startswith(link.address + "/p2p/")
                await bob.wait_change(frozenset())
                back = bob.link(ALICE.peer_id)
                assert back is not None
                assert back.address.startswith(address[:5])
                await alice.ping(BOB.peer_id)
            await bob.wait_change(frozenset([ALICE.peer_id]))


async def test_a_host_starts_and_stops_fast() -> None:
    start = time.perf_counter()
    async with open_host(BOB, ANY_PORT):
        opened = time.perf_counter() - start
        start = time.perf_counter()
    assert opened < 1.5
    assert time.perf_counter() - start < 2


async def test_a_place_that_accepts_and_says_nothing_is_unreachable_in_time() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with listeners[0], open_host(ALICE, (), limits=Limits(dial_timeout_s=0.3)) as alice:
        with trio.fail_after(5), pytest.raises(Unreachable, match=r"within 0\.3 s"):
            await alice.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{BOB.peer_id}")


async def test_a_place_that_talks_otherwise_is_no_meshnode() -> None:
    async def http(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery, open_host(ALICE, ()) as alice:
        nursery.start_soon(trio.serve_listeners, http, listeners)
        with trio.fail_after(5), pytest.raises(Unreachable, match="handshake failed"):
            await alice.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{BOB.peer_id}")
        nursery.cancel_scope.cancel()


async def test_another_address_is_tried_when_the_first_is_dead(bob: Host) -> None:
    async with open_host(ALICE, (), limits=Limits(dial_timeout_s=5)) as alice:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")  # accepts, and says nothing
        dead = f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}"
        alive = bob.addresses[0].partition("/p2p/")[0]
        async with listeners[0]:
            with trio.fail_after(4):
                await alice._reach(BOB.peer_id, [dead, alive])
        assert alice.peers == {BOB.peer_id}


async def test_a_stopped_process_is_noticed(bob: Host) -> None:
    """The link goes silent below TCP: nothing is closed, nothing is answered."""
    limits = Limits(keepalive_s=0.2, silence_s=0.3)
    async with open_host(ALICE, ANY_PORT, limits=limits) as alice:
        await alice.connect(bob.addresses[0])
        for conn in bob._network.get_connections():
            conn.muxed_conn._write_frame = swallow  # type: ignore[attr-defined]
        with trio.fail_after(20):
            assert await alice.wait_change(frozenset([BOB.peer_id])) == frozenset()


async def swallow(data: bytes) -> None:
    """Write nothing."""


async def test_what_a_handler_served_is_not_logged(bob: Host) -> None:
    async def fail(stream: Stream) -> None:
        raise RuntimeError((await stream.read()).decode())

    bob.set_handler("/test/fail/1", fail)
    with capture_logs() as logs:
        async with open_host(CAROL, ()) as carol:
            await carol.connect(bob.addresses[0])
            async with carol.open_stream(BOB.peer_id, "/test/fail/1") as stream:
                await stream.write(b"my secret prompt")
                with pytest.raises(Exception, match="gave up"):
                    await stream.read()
    failures = [entry for entry in logs if entry["event"] == "stream_handler_failed"]
    assert [entry["error"] for entry in failures] == ["RuntimeError"]
    assert "secret" not in str(logs)


async def test_what_a_stranger_told_libp2p_of_this_machine_is_not_believed(bob: Host) -> None:
    """libp2p keeps every address that a peer claims to listen on, and whoever is connected may claim any."""
    claims = [Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}"), Multiaddr("/ip4/127.0.0.1/udp/1/quic-v1")]
    async with open_host(ALICE, ()) as alice:
        alice._host.peerstore.add_addrs(bob._host.get_id(), claims, 60)
        assert alice.known(BOB.peer_id) == ()
        with pytest.raises(Unreachable, match="no address of it is known"):
            await alice.reach(BOB.peer_id)
        await alice.connect(bob.addresses[0])
        reached = bob.addresses[0].partition("/p2p/")[0]
        assert set(alice.known(BOB.peer_id)) == {str(claims[0]), reached}
        await alice.disconnect(BOB.peer_id)
        assert reached in alice.known(BOB.peer_id)


@pytest.mark.parametrize("psk", [None, b"k" * 32])
async def test_a_host_that_is_cancelled_closes_every_socket_in_time(psk: bytes | None) -> None:
    """Not left in order: a scope around it is cancelled, and with it every task of libp2p at once (guard 21)."""
    gc.collect()
    before = sockets()
    async with open_host(BOB, ANY_PORT, psk=psk) as bob, open_host(CAROL, ANY_PORT, psk=psk) as carol:
        carol.set_handler("/test/hang/1", hang)
        between = sockets()
        with trio.CancelScope() as scope:
            async with open_host(ALICE, ANY_PORT, psk=psk) as alice:
                await alice.connect(carol.addresses[0])
                await bob.connect(alice.addresses[0])
                async with alice.open_stream(CAROL.peer_id, "/test/hang/1") as stream:
                    await stream.write(b"x")
                    cancelled = trio.current_time()
                    scope.cancel()
                    await stream.read()
        assert trio.current_time() - cancelled < 3
        assert not alice.peers
        with trio.fail_after(5):
            for host in (bob, carol):
                await host.wait_change(frozenset([ALICE.peer_id]))
        assert sockets() == between
    gc.collect()  # a socket that was left to it would warn, and warnings are errors
    assert sockets() == before


async def hang(stream: Stream) -> None:
    """Read and say nothing."""
    while await stream.read():
        pass


def sockets() -> int:
    """How many sockets this process has open."""
    links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


async def test_garbage_on_the_port_harms_nobody(bob: Host) -> None:
    port = int(bob.addresses[0].split("/")[4])
    for garbage in (b"", b"\x00" * 100, b"\x13/multistream/1.0.0\n\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(garbage)
    async with open_host(ALICE, ()) as alice:
        await alice.connect(bob.addresses[0])
        assert await alice.ping(BOB.peer_id) > 0
