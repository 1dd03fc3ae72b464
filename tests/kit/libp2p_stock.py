"""Stock py-libp2p in every situation that has a guard: ``python -m tests.kit.libp2p_stock`` says what went well.

It prints one JSON object, guard number to true or false. A true means that this release of libp2p no longer
needs that guard. Run as a process of its own, since guards cannot be taken off again.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr  # type: ignore[import-untyped]  # ships no types

from tests.kit.libp2p_traps import TRAPS, Trap, escaped, free_port

PROTOCOL = TProtocol("/test/1")
QUIET = ConnectionConfig(min_connections=0, low_watermark=0)
SMALL = ConnectionConfig(min_connections=0, low_watermark=0, high_watermark=3, max_connections=3)


@asynccontextmanager
async def host(name: bytes, port: int = 0, config: ConnectionConfig = QUIET) -> AsyncIterator[IHost]:
    """A stock host on loopback, with the auto-connector as far off as its settings go."""
    made = new_host(key_pair=create_new_key_pair(name.ljust(32)), connection_config=config)
    async with made.run([Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")]):
        yield made


async def connect(near: IHost, far: IHost) -> None:
    """Dial as the library wants it."""
    await near.connect(info_from_p2p_addr(far.get_addrs()[0]))


async def handler_that_fails() -> bool:
    """1: a handler raises; the host goes on."""

    async def fail(stream: INetStream) -> None:
        raise ZeroDivisionError

    async with host(b"a") as near, host(b"b") as far:
        far.set_stream_handler(PROTOCOL, fail)
        await connect(near, far)
        await near.new_stream(far.get_id(), [PROTOCOL])
        await trio.sleep(0.5)
        return True


async def many_streams() -> bool:
    """6: the 257th stream is opened or refused, but not waited for."""

    async def hold(stream: INetStream) -> None:
        await trio.sleep_forever()

    async with host(b"a") as near, host(b"b") as far:
        far.set_stream_handler(PROTOCOL, hold)
        await connect(near, far)
        for _ in range(256):
            await near.new_stream(far.get_id(), [PROTOCOL])
        with trio.move_on_after(1) as patience:
            await near.new_stream(far.get_id(), [PROTOCOL])
        return not patience.cancelled_caught


async def dial_at_once() -> bool:
    """8: a dial on loopback takes less than a fifth of a second at least once in three."""
    times = []
    for _ in range(3):
        async with host(b"a") as near, host(b"b") as far:
            start = time.perf_counter()
            await connect(near, far)
            times.append(time.perf_counter() - start)
    return min(times) < 0.2


async def port_closed_afterwards() -> bool:
    """10: when the host has ended nobody listens."""
    port = free_port()
    async with host(b"a", port):
        pass
    try:
        async with await trio.open_tcp_stream("127.0.0.1", port):
            return False
    except OSError:
        return True


async def dial_again() -> bool:
    """11: a peer that could not be dialled is there a moment later."""
    port = free_port()
    async with host(b"a") as near:
        async with host(b"b", port) as far:
            info = info_from_p2p_addr(far.get_addrs()[0])
            await far.close()
        try:
            await near.connect(info)
        except Exception:
            async with host(b"b", port):
                await near.connect(info)
                return True
    return False


async def no_dials_of_its_own() -> bool:
    """12: a peer whose address is known is not dialled unasked."""
    async with host(b"a") as near, host(b"b") as far:
        near.get_peerstore().add_addrs(far.get_id(), far.get_addrs(), 60)
        connector = near.get_network().auto_connector  # type: ignore[attr-defined]  # of Swarm
        await connector.maybe_connect()
        return not near.get_network().connections


async def port_of_its_own() -> bool:
    """19: a second host on the same port is refused."""
    port = free_port()
    async with host(b"a", port), host(b"b", port) as second:
        return not second.get_network().listeners


async def places_given_back() -> bool:
    """20: a host with places for three lets in a fifth after four have come and gone."""
    async with host(b"b", config=SMALL) as far:
        for _ in range(5):
            async with host(b"a") as near:
                await connect(near, far)
                await near.disconnect(far.get_id())
            while far.get_network().connections:  # noqa: ASYNC110  # nothing tells
                await trio.sleep(0.01)
        return True


HOSTS: dict[str, Trap] = {
    "01": handler_that_fails,
    "06": many_streams,
    "08": dial_at_once,
    "10": port_closed_afterwards,
    "11": dial_again,
    "12": no_dials_of_its_own,
    "19": port_of_its_own,
    "20": places_given_back,
}


def went_well(trap: Trap) -> bool:
    """Whether a situation between two hosts went well, on the real clock."""

    async def run() -> bool:
        with trio.move_on_after(15):
            return await trap()
        return False

    try:
        return trio.run(run)
    except Exception:
        return False


if __name__ == "__main__":
    found = {number: escaped(trap) for number, trap in TRAPS.items()}
    found |= {number: went_well(trap) for number, trap in HOSTS.items()}
    print(json.dumps(found))  # noqa: T201  # this is its answer
