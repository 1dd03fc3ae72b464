"""Where peers are said to be: addresses that others told, kept within bounds until a dial proves or disproves them.

What is told of loopback is believed of those alone who came over loopback (:func:`believed`): from elsewhere it would
have this machine dial its own services. Neighbours on the link have a rule of their own (:mod:`meshnode.net.lan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from meshnode.domain import PeerId
from meshnode.errors import ConfigError
from meshnode.net.transport import Address, Transport, parse_address, parse_dial

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


def believed(peer: PeerId, addresses: Iterable[str], *, local: bool) -> tuple[str, ...]:
    """Those of ``addresses`` (with or without the peer) at which ``peer`` may be dialled, made whole.

    ``local``: whoever told them was connected over loopback (:func:`is_local`); nobody else is believed about loopback.
    Left out are also those that are malformed, name another peer, or cannot be dialled.
    """
    found: dict[str, None] = {}
    for text in addresses:
        try:
            address = parse_address(text)
        except ConfigError:
            continue
        if address.peer in (None, peer) and address.port and not address.unspecified and address.loopback <= local:
            found[str(address._replace(peer=peer))] = None
    return tuple(found)


def is_local(host: Transport, peer: PeerId) -> bool:
    """Whether ``host`` is connected to ``peer`` on its own machine."""
    link = host.link(peer)
    try:
        return link is not None and parse_address(link.address).loopback
    except ConfigError:  # it broke before anybody asked where it led
        return False


def whereabouts(host: Transport, peer: PeerId, said: Iterable[str]) -> tuple[str, ...]:
    """Where ``peer``, which is connected, can be dialled again: where it was, and where it ``said`` that it is."""
    link = host.link(peer)
    reached = (f"{link.address}/p2p/{peer}",) if link is not None and link.outbound else ()
    return tuple(dict.fromkeys((*reached, *believed(peer, said, local=is_local(host, peer)))))


def _dialled(peer: PeerId, text: str) -> Address | None:
    try:
        address, named = parse_dial(text)
    except ConfigError:
        return None
    return address._replace(peer=None) if named == peer else None
