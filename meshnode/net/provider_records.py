"""Who told us that he provides what: bounded, expiring, and only by the rules. Pure: the clock is an argument."""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from meshnode.domain import PeerId, Record
from meshnode.net.addressbook import believed
from meshnode.net.directory import ROOM, Hint, Key, belongs
from meshnode.net.transport import parse_address

MOST_ADDRESSES = 4
MOST_ADDRESS_CHARS = 256
_SWEEP_S = 30.0


class Caps(Record, frozen=True):
    """How many records are kept: in all, of one peer, of one subnet in all, and of one subnet under one key.

    A record weighs at most 1 KiB, so that 16,384 take no more than 16 MiB (threats, row 18). Subnets are /24 (IPv4) and
    /48 (IPv6) of addresses that are reachable from everywhere; others count as no subnet.
    """

    records: int = 16_384
    per_peer: int = 128
    per_subnet: int = 2_048
    per_subnet_and_key: int = ROOM // 2


class _Entry(NamedTuple):
    hint: Hint
    subnet: str | None
    expires: float


class ProviderRecords:
    """Provider records of others, in memory. Whoever stands under a full key first keeps his place by renewing it."""

    def __init__(self, expire_s: float, caps: Caps | None = None) -> None:
        self._expire_s = expire_s
        self._caps = caps or Caps()
        self._keys: dict[Key, dict[PeerId, _Entry]] = {}
        self._of_peer: Counter[PeerId] = Counter()
        self._of_subnet: Counter[str] = Counter()
        self._size = 0
        self._swept = float("-inf")

    def __len__(self) -> int:
        """Records held; some may have expired unnoticed."""
        return self._size

    def add(self, key: Key, hint: Hint, subnet: str | None, now: float) -> bool:
        """Keep or renew a record that ``hint.peer`` itself announced; False when a rule or a bound forbids it."""
        if not belongs(key, hint.peer) or not hint.addresses:
            return False
        if now - self._swept >= _SWEEP_S:
            self._sweep(now)
        self._expire(key, now)
        if hint.peer in self._keys.get(key, {}):
            self._drop(key, hint.peer)
        if not self._has_room(key, hint.peer, subnet):
            return False
        self._keys.setdefault(key, {})[hint.peer] = _Entry(hint, subnet, now + self._expire_s)
        self._of_peer[hint.peer] += 1
        if subnet is not None:
            self._of_subnet[subnet] += 1
        self._size += 1
        return True

    def get(self, key: Key, now: float) -> tuple[Hint, ...]:
        """Who stands under ``key``, oldest first."""
        return tuple(entry.hint for entry in self._keys.get(key, {}).values() if entry.expires > now)

    def _has_room(self, key: Key, peer: PeerId, subnet: str | None) -> bool:
        there = self._keys.get(key, {})
        if len(there) >= ROOM or self._size >= self._caps.records or self._of_peer[peer] >= self._caps.per_peer:
            return False
        neighbours = sum(entry.subnet == subnet for entry in there.values())
        return subnet is None or (
            neighbours < self._caps.per_subnet_and_key and self._of_subnet[subnet] < self._caps.per_subnet
        )

    def _sweep(self, now: float) -> None:
        self._swept = now
        for key in list(self._keys):
            self._expire(key, now)

    def _expire(self, key: Key, now: float) -> None:
        for peer in [peer for peer, entry in self._keys.get(key, {}).items() if entry.expires <= now]:
            self._drop(key, peer)

    def _drop(self, key: Key, peer: PeerId) -> None:
        entry = self._keys[key].pop(peer)
        if not self._keys[key]:
            del self._keys[key]
        self._size -= 1
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]
        if entry.subnet is not None:
            self._of_subnet[entry.subnet] -= 1
            if not self._of_subnet[entry.subnet]:
                del self._of_subnet[entry.subnet]


class Bucket:
    """A bucket of tokens: ``burst`` at once, and ``rate`` per second on average."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Window:
    """At most ``limit`` events in any ``seconds``."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=limit)

    def wait(self, now: float) -> float:
        """Seconds until the next event may happen."""
        if len(self._times) < (self._times.maxlen or 1):
            return 0.0
        return max(0.0, self._times[0] + self._seconds - now)

    def note(self, now: float) -> None:
        """An event happens."""
        self._times.append(now)


def usable(peer: PeerId, addresses: Iterable[str], *, local: bool) -> tuple[str, ...]:
    """What is ``believed`` of these addresses, as much as a record holds: up to 4, of up to 256 characters together."""
    kept: list[str] = []
    for whole in believed(peer, addresses, local=local):
        if len(kept) < MOST_ADDRESSES and sum(map(len, kept)) + len(whole) <= MOST_ADDRESS_CHARS:
            kept.append(whole)
    return tuple(kept)


def subnet_of(address: str) -> str | None:
    """The part of the internet that ``address`` (a multiaddr) lies in; None when not everybody can reach it."""
    parsed = parse_address(address)
    if parsed.kind not in ("ip4", "ip6"):
        return None
    ip = ipaddress.ip_address(parsed.host)
    if not ip.is_global:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
