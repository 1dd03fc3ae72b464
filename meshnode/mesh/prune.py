"""Parting with peers that are of no use: connections that look-ups opened, and nobody needs now.

A node dials strangers to ask them for others, and whoever may serve a model. Those connections are closed again here;
the peers stay known, and are dialled again when they are needed. Who dialled this node is never parted with: the
transport bounds how many those are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import structlog
import trio

from meshnode.domain import PeerId
from meshnode.net.transport import Transport

KEPT: Final = 32
"""Peers of no use with whom this node stays connected all the same: the directory asks them again soon."""
IDLE_S: Final = 300.0
"""How long a peer must have been of no use."""
OFFERING: Final = 64
"""Peers that count as of use because they offer models; beyond them those that were met last do not."""
LOOK_S: Final = 30.0

log = structlog.get_logger()


async def prune(transport: Transport, offers: Callable[[PeerId], bool], busy: Callable[[PeerId], bool]) -> None:
    """Part with superfluous peers until cancelled.

    ``offers`` says whether a peer offers models, ``busy`` whether it is not to be parted with: it was joined, or has a
    session with this node, which lasts from the first request on.
    """
    used: dict[PeerId, float] = {}
    while True:
        now = trio.current_time()
        dialled = [peer for peer in dict.fromkeys((*used, *transport.peers)) if _dialled(transport, peer)]
        useful = set([peer for peer in dialled if offers(peer)][:OFFERING])
        used = {peer: now if peer in useful or busy(peer) else used.get(peer, now) for peer in dialled}
        for peer in superfluous(used, now):
            log.debug("peer_left", peer=peer, idle_s=round(now - used.pop(peer)))
            await transport.disconnect(peer)
        await trio.sleep(LOOK_S)


def superfluous(used: Mapping[PeerId, float], now: float) -> list[PeerId]:
    """Of peers, each with the time it was last of use, those to part with: who was of use longest ago goes first."""
    spare = sorted((peer for peer, at in used.items() if at < now), key=used.__getitem__)
    return [peer for peer in spare[: max(0, len(spare) - KEPT)] if now - used[peer] >= IDLE_S]


def _dialled(transport: Transport, peer: PeerId) -> bool:
    link = transport.link(peer)
    return link is not None and link.outbound
