"""Who may serve a model: what a directory promises, how its keys are made, and how readers and writers share shards.

A directory holds **hints**: "this peer may serve this name". Nobody vouches for one, so whoever finds it asks the peer
for its own signed offer. Names are model ids (compared without case) and :data:`CATALOGUE`, which every server
provides, since a DHT cannot list keys that nobody was told of.

A key is ``h ‖ k ‖ s``: h is the SHA-256 of network and name, k one of :data:`LEVELS`, s one of the k shards of that
level. A peer belongs into exactly one shard of each level, ``s = H(h, peer id) mod k``, which everybody checks from the
key alone. A shard has room for :data:`ROOM` peers, first come. On the wire the 34 bytes are the digest of an identity
multihash (``00 22``), because some Kademlias (js-libp2p) accept nothing else.

**Writers** take the smallest level with room. **Readers** go up until they have enough, or until two levels in a row
had room in every shard, for above those nobody had a reason to go.

What holds against throw-away records (threats, row 16): a hint is unverified, so ``enough`` must count only hints that
the caller has not found wanting; he passes those as ``besides`` and asks again. Then whoever holds a record at any of
the 127 shards is found, after at most seven such rounds: 400 records spread by the shard rule fill the levels to 16 and
leave room at 32 or 64. Two limits: whoever grinds ids for one peer's own shard of 64 fills that peer's seven shards
with 20 ids (receivers allow one /24 half of a shard, and who came first and renews stays); and when a flood ends a
writer that was pushed up is seen again only at its next renewal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from enum import Enum
from typing import NamedTuple, Protocol

import trio

from meshnode.domain import PeerId, Record

CATALOGUE = "catalogue"
"""The well-known name that every server provides."""
LEVELS = (1, 2, 4, 8, 16, 32, 64)
"""Into how many shards a name can be split."""
ROOM = 20
"""Peers per shard."""
ENOUGH = 8
"""Hints that ``find`` looks for unless told otherwise."""

_STEM_BYTES = 32
_MULTIHASH = bytes((0x00, _STEM_BYTES + 2))  # identity, and the length


class Hint(Record, frozen=True):
    """A peer that may serve what was asked for; unverified. ``addresses`` are whole, ending in ``/p2p/<id>``."""

    peer: PeerId
    addresses: tuple[str, ...] = ()


class Timing(Record, frozen=True):
    """Times of a directory in seconds, and its pace.

    Records live ``expire_s`` and are renewed each ``renew_s``. ``find`` ends after ``find_s``, whatever happens; one
    peer has ``ask_s`` to be dialled and to answer. At most ``keys`` keys are published per ``window_s`` (other
    implementations drop what exceeds ten). What could not be published is tried again after ``retry_s``, doubling up to
    ``retry_most_s``. ``refresh_s`` is between two looks around; ``idle_s`` is how long a stream may stand still.
    """

    expire_s: float = 600.0
    renew_s: float = 240.0
    find_s: float = 5.0
    ask_s: float = 2.0
    keys: int = 9
    window_s: float = 10.0
    retry_s: float = 1.0
    retry_most_s: float = 60.0
    refresh_s: float = 600.0
    idle_s: float = 10.0


class Directory(Protocol):
    """Who may serve what, as this node can say and ask."""

    async def provide(self, names: Collection[str]) -> None:
        """From now on tell that this node provides ``names``, and no others. Returns at once.

        They are published, verified and renewed in the background. There is no way to take a record back: what is no
        longer named is told until it expires.
        """

    async def find(self, name: str, *, enough: int = ENOUGH, besides: Collection[PeerId] = ()) -> tuple[Hint, ...]:
        """Peers that may serve ``name``, asked afresh; never ourselves, nobody twice, nobody of ``besides``.

        Reads on until ``enough`` are found (there may be more) or there are no others. Ends after ``Timing.find_s``
        with what it has by then; never raises for trouble with peers.
        """

    @property
    def published(self) -> frozenset[str]:
        """The names of ``provide`` that a look-up found at others, and that are not expired since."""


class Key(NamedTuple):
    """One shard of a name: ``stem`` is h (32 bytes), ``shards`` k, ``shard`` s."""

    stem: bytes
    shards: int
    shard: int

    def encoded(self) -> bytes:
        """The 36 bytes on the wire."""
        return _MULTIHASH + self.stem + bytes((self.shards, self.shard))


def parse_key(raw: bytes) -> Key | None:
    """The key that ``raw`` stands for; None when it is none of ours."""
    if len(raw) != len(_MULTIHASH) + _STEM_BYTES + 2 or not raw.startswith(_MULTIHASH):
        return None
    stem, shards, shard = raw[len(_MULTIHASH) : -2], raw[-2], raw[-1]
    return Key(stem, shards, shard) if shards in LEVELS and shard < shards else None


def stem_of(network: str, name: str) -> bytes:
    """h: what ``name`` is in ``network``, whatever its case (32 bytes)."""
    parts = (b"meshnode directory 1", network.encode(), name.lower().encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def shard_of(stem: bytes, peer: PeerId, shards: int) -> int:
    """s: the one shard of ``shards`` into which ``peer`` belongs."""
    return int.from_bytes(hashlib.sha256(stem + peer.encode()).digest()[:8], "big") % shards


def key_for(stem: bytes, peer: PeerId, shards: int) -> Key:
    """Where ``peer`` belongs when the name has so many shards."""
    return Key(stem, shards, shard_of(stem, peer, shards))


def belongs(key: Key, peer: PeerId) -> bool:
    """Whether ``peer`` may stand under ``key``."""
    return key.shard == shard_of(key.stem, peer, key.shards)


# --- writers and readers ------------------------------------------------------------------------


class Outcome(Enum):
    """What came of writing to a shard."""

    PLACED = "placed"
    FULL = "full"
    REFUSED = "refused"


async def place(stem: bytes, me: PeerId, write: Callable[[Key], Awaitable[Outcome]]) -> Key | None:
    """Write to the smallest level with room, and say where; None when that cannot be done now.

    A shard that refuses though it has room is passed by once (it may have had enough from our part of the network).
    """
    refusals = 0
    for shards in LEVELS:
        key = key_for(stem, me, shards)
        outcome = await write(key)
        if outcome is Outcome.PLACED:
            return key
        refusals += outcome is Outcome.REFUSED
        if refusals == 2:
            return None
    return None


class Search:
    """Reading a name's shards upward. ``found`` grows as answers come, so that a search can be broken off."""

    def __init__(self, stem: bytes, enough: int, besides: Collection[PeerId]) -> None:
        self._stem = stem
        self._enough = enough
        self._besides = frozenset(besides)
        self._there: dict[Key, set[PeerId]] = {}
        self.found: dict[PeerId, Hint] = {}

    async def run(self, read: Callable[[Key], Awaitable[None]]) -> None:
        """Go up, reading the shards of a level all at once.

        ``read`` hands what it hears to :meth:`take` as it comes, and bounds how much it asks at a time.
        """
        calm = 0
        for shards in LEVELS:
            keys = [Key(self._stem, shards, shard) for shard in range(shards)]
            async with trio.open_nursery() as nursery:
                for key in keys:
                    nursery.start_soon(read, key)
            full = any(len(self._there.get(key, ())) >= ROOM for key in keys)
            calm = 0 if full else calm + 1
            if len(self.found) >= self._enough or calm == 2:
                return

    def take(self, key: Key, hints: Iterable[Hint]) -> None:
        """Note those of ``hints`` that belong under ``key``."""
        for hint in hints:
            if not belongs(key, hint.peer):
                continue
            self._there.setdefault(key, set()).add(hint.peer)
            if hint.peer not in self._besides and hint.addresses:
                self.found.setdefault(hint.peer, hint)
