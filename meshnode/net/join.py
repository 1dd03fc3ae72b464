"""Stay connected to the peers an owner named: connect, and again when the connection is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from meshnode.errors import Unreachable
from meshnode.net.transport import Transport, parse_dial

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


async def keep_connected(transport: Transport, addresses: Sequence[str], chance: Callable[[], float]) -> None:
    """Hold a connection to each of ``addresses`` (``…/p2p/<id>``) until cancelled. ``chance`` draws from 0..1.

    Raises ConfigError at once when one of them is no such address; a peer that cannot be reached is tried again, with
    pauses that double up to a minute, each shortened at random so that many nodes do not return together.
    """
    for address in addresses:
        parse_dial(address)
    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(_keep, transport, address, chance)


async def _keep(transport: Transport, address: str, chance: Callable[[], float]) -> None:
    log = structlog.get_logger().bind(address=address)
    pause = FIRST_PAUSE_S
    while True:
        try:
            peer = await transport.connect(address)
        except Unreachable as error:
            log.warning("peer_unreachable", reason=error.message, again_in_s=round(pause, 1))
        else:
            log.info("peer_connected", peer=peer)
            pause = FIRST_PAUSE_S
            while peer in (now := transport.peers):
                await transport.wait_change(now)
            log.warning("peer_lost", peer=peer, again_in_s=round(pause, 1))
        await trio.sleep(pause * (0.5 + chance() / 2))
        pause = min(LONGEST_PAUSE_S, 2 * pause)
