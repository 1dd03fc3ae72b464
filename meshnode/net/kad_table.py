"""The pure parts of Kademlia: whom we know by distance, and whom to ask next on the way to a key."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from libp2p.peer.id import ID

from meshnode.domain import PeerId

WIDTH = 20
"""Peers per bucket, and how many of the closest hold a record (Kademlia's k)."""
_MOST_ASKED = 64
_PER_BUCKET = 2
_PER_TABLE = 8


class Contact(NamedTuple):
    """A peer, where it can be dialled, and where it stands among the keys (256 bits)."""

    peer: PeerId
    addresses: tuple[str, ...]
    position: int


def contact(peer: PeerId, addresses: Iterable[str] = ()) -> Contact:
    """A contact at its position: the SHA-256 of its id's bytes (libp2p specification, "kad-dht")."""
    return Contact(peer, tuple(addresses), position(ID.from_base58(peer).to_bytes()))


def position(raw: bytes) -> int:
    """Where a key, or the bytes of a peer id, stands."""
    return int.from_bytes(hashlib.sha256(raw).digest(), "big")


class Table:
    """Peers that have answered, by their distance from us.

    A bucket keeps whom it has: newcomers wait until somebody fails, so that a flood of new ids displaces nobody. Of one
    subnet (see ``provider_records.subnet_of``) there are two peers per bucket and eight in all (threats, row 17).
    """

    def __init__(self, me: PeerId) -> None:
        self._me = contact(me)
        self._buckets: dict[int, dict[PeerId, tuple[Contact, str | None]]] = {}

    def __len__(self) -> int:
        """Peers in the table."""
        return sum(map(len, self._buckets.values()))

    def get(self, peer: PeerId) -> Contact | None:
        """What we know of ``peer``; None when it is not in the table."""
        bucket = self._buckets.get(self._number(contact(peer)), {})
        return bucket[peer][0] if peer in bucket else None

    def add(self, newcomer: Contact, subnet: str | None) -> bool:
        """Take in or update a peer that has answered; whether it is in the table now."""
        if newcomer.peer == self._me.peer:
            return False
        bucket = self._buckets.setdefault(self._number(newcomer), {})
        old = bucket.get(newcomer.peer)
        if old is not None:
            bucket[newcomer.peer] = (newcomer if newcomer.addresses else old[0], subnet)
            return True
        if len(bucket) >= WIDTH or (subnet is not None and self._crowded(bucket, subnet)):
            return False
        bucket[newcomer.peer] = (newcomer, subnet)
        return True

    def remove(self, peer: PeerId) -> None:
        """Forget a peer that failed."""
        self._buckets.get(self._number(contact(peer)), {}).pop(peer, None)

    def closest(self, target: int, count: int = WIDTH) -> list[Contact]:
        """The ``count`` peers closest to ``target``, closest first."""
        every = [one for bucket in self._buckets.values() for one, _ in bucket.values()]
        return sorted(every, key=lambda one: one.position ^ target)[:count]

    def _number(self, one: Contact) -> int:
        return (one.position ^ self._me.position).bit_length()

    def _crowded(self, bucket: dict[PeerId, tuple[Contact, str | None]], subnet: str) -> bool:
        here = sum(other == subnet for _, other in bucket.values())
        counts = Counter(other for every in self._buckets.values() for _, other in every.values())
        return here >= _PER_BUCKET or counts[subnet] >= _PER_TABLE


class Walk:
    """The way to a key: ask the closest, learn of closer ones, until the closest :data:`WIDTH` have all answered.

    No more than 64 peers are asked, whatever they tell of.
    """

    def __init__(self, target: int, start: Iterable[Contact]) -> None:
        self._target = target
        self._known: dict[PeerId, Contact] = {}
        self._asked: set[PeerId] = set()
        self._flying: set[PeerId] = set()
        self._failed: set[PeerId] = set()
        self._closest: list[Contact] | None = None
        self.offer(start)

    def offer(self, contacts: Iterable[Contact]) -> None:
        """Learn of peers."""
        for one in contacts:
            known = self._known.get(one.peer)
            if known is None or not known.addresses:
                self._known[one.peer] = one
                self._closest = None

    def take(self) -> Contact | None:
        """Whom to ask now; None when nobody is left, or not before an answer has come."""
        if len(self._asked) >= _MOST_ASKED:
            return None
        for one in self.closest:
            if one.peer not in self._asked:
                self._asked.add(one.peer)
                self._flying.add(one.peer)
                return one
        return None

    def answered(self, peer: PeerId, closer: Iterable[Contact]) -> None:
        """A peer answered, and told of others."""
        self._flying.discard(peer)
        self.offer(closer)

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer: it does not count among the closest."""
        self._flying.discard(peer)
        self._failed.add(peer)
        self._closest = None

    @property
    def over(self) -> bool:
        """Whether nobody is being asked and nobody is left to ask."""
        left = len(self._asked) < _MOST_ASKED and any(one.peer not in self._asked for one in self.closest)
        return not self._flying and not left

    @property
    def closest(self) -> list[Contact]:
        """The closest peers that did not fail, closest first."""
        if self._closest is None:
            alive = [one for one in self._known.values() if one.peer not in self._failed]
            self._closest = sorted(alive, key=lambda one: one.position ^ self._target)[:WIDTH]
        return self._closest
