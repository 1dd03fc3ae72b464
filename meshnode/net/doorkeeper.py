"""Who may connect: before this node has joined anything only this machine, and at no time who is banned.

A transport asks through a :class:`Gate`: for the remote IP address of each inbound connection before anything of it is
served, and for a peer's id as soon as its key has proved it. Of dials the id is asked, and the address too where others
told of it: only what the owner names is dialled through a closed door.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from typing import Final

import structlog

from meshnode.domain import PeerId
from meshnode.errors import Unreachable
from meshnode.net.transport import ip_of

log = structlog.get_logger()

MOST_BANS: Final = 4096
"""Bans kept at a time; beyond them those that end soonest are lifted."""
QUIET_S: Final = 60.0
"""Refusals are logged at most once in so many seconds: a stranger can cause any number of them."""


def everybody(host: str) -> bool:
    """Lets in whoever comes."""
    return True


def nobody(peer: PeerId) -> bool:
    """Has no peer banned."""
    return False


class Doorkeeper:
    """The rule. It starts closed; ``open`` may be set at any time, and who is connected by then stays.

    ``own`` gives this machine's IP addresses as text, asked only while the door is closed and somebody comes from
    elsewhere than loopback. ``clock`` gives seconds that only grow.
    """

    def __init__(self, own: Callable[[], frozenset[str]], clock: Callable[[], float]) -> None:
        self.own = own
        self.open = False
        self._clock = clock
        self._bans: dict[PeerId, float] = {}

    def __call__(self, host: str) -> bool:
        """Whether a connection from the IP address ``host`` is let in; what is no IP address comes only when open."""
        if self.open:
            return True
        address = _address(host)
        return address is not None and (address.is_loopback or address in map(_address, self.own()))

    def block(self, peer: PeerId, until: float) -> None:
        """Ban ``peer`` up to the clock's ``until``; the latest word counts, and a moment that is past lifts the ban.

        Connections it has are not dropped by this: ``Transport.disconnect`` does that.
        """
        now = self._clock()
        self._bans = {other: end for other, end in self._bans.items() if end > now and other != peer}
        if until > now:
            self._bans[peer] = until
        if len(self._bans) > MOST_BANS:
            del self._bans[min(self._bans, key=self._bans.__getitem__)]

    def blocked(self, peer: PeerId) -> bool:
        """Whether ``peer`` is banned now."""
        return self._bans.get(peer, -math.inf) > self._clock()


class Gate:
    """A transport's side of the door: asks, counts who was turned away, and says so once a minute at most."""

    def __init__(
        self, admits: Callable[[str], bool], blocked: Callable[[PeerId], bool], clock: Callable[[], float]
    ) -> None:
        self._admits = admits
        self._blocked = blocked
        self._clock = clock
        self._spoke = -math.inf
        self._unsaid = 0

    def lets_in(self, host: str) -> bool:
        """Whether a connection from the IP address ``host`` may be served."""
        return self._admits(host) or self._refuse(host=host)

    def lets_out(self, host: str) -> bool:
        """Whether the IP address ``host`` may be dialled because somebody named it: who is kept out is not fetched in.

        What the owner names is dialled all the same. So a node that joined nobody meets no strangers by hearsay.
        """
        return self._admits(host)

    def bars(self, peer: PeerId) -> bool:
        """Whether a connection or stream with ``peer`` is to be dropped."""
        return self._blocked(peer) and not self._refuse(peer=peer)

    def check(self, peer: PeerId) -> None:
        """Before dialling or using a connection. Raises Unreachable when ``peer`` is banned."""
        if self._blocked(peer):
            raise Unreachable(f"{peer} is blocked for a time: this node does not connect to it.")

    def _refuse(self, **who: str) -> bool:
        """Count a refusal, and log it unless one was logged lately; never lets anybody in."""
        self._unsaid += 1
        if self._clock() - self._spoke >= QUIET_S:
            log.info("inbound_refused", refused=self._unsaid, **who)
            self._spoke, self._unsaid = self._clock(), 0
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address without its zone; None where it is none."""
    try:
        return ip_of(host.partition("%")[0])
    except ValueError:
        return None
