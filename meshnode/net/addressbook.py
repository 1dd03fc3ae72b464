"""Where peers are said to be: addresses that others told, kept within bounds until a dial proves or disproves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from meshnode.domain import PeerId
from meshnode.errors import ConfigError
from meshnode.net.transport import Address, parse_dial

MOST_ADDRESSES: Final = 8
"""Addresses kept of one peer; the latest told are the first tried."""
MOST_PEERS: Final = 4096
"""Peers kept; of whom nothing was told for longest is forgotten first."""


class AddressBook:
    """Addresses by peer."""

    def __init__(self, most_peers: int = MOST_PEERS) -> None:
        self._most_peers = most_peers
        self._told: dict[PeerId, tuple[Address, ...]] = {}

    def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Note whole multiaddrs (``…/p2p/<peer>``); what cannot be dialled, or names another peer, is dropped."""
        fresh = [address for text in addresses if (address := _dialled(peer, text)) is not None]
        if fresh:
            told = dict.fromkeys((*fresh, *self._told.pop(peer, ())))
            self._told[peer] = tuple(told)[:MOST_ADDRESSES]
        while len(self._told) > self._most_peers:
            del self._told[next(iter(self._told))]

    def of(self, peer: PeerId) -> tuple[Address, ...]:
        """Where ``peer`` may be, the latest told first; without ``/p2p/…``."""
        return self._told.get(peer, ())


def _dialled(peer: PeerId, text: str) -> Address | None:
    try:
        address, named = parse_dial(text)
    except ConfigError:
        return None
    return address._replace(peer=None) if named == peer else None
