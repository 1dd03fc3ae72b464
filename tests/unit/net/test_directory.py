"""Keys, shards, and what readers and writers make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import PeerId
from meshnode.net.directory import (
    ENOUGH,
    LEVELS,
    ROOM,
    Hint,
    Key,
    Outcome,
    Search,
    belongs,
    key_for,
    parse_key,
    place,
    shard_of,
    stem_of,
)
from meshnode.net.provider_records import ProviderRecords

STEM = stem_of("public", "qwen3-8b")


def hint(peer: PeerId) -> Hint:
    """A hint with some address."""
    return Hint(peer=peer, addresses=(f"/ip4/192.0.2.1/tcp/9338/p2p/{peer}",))


def crowd(start: int, count: int) -> list[PeerId]:
    """Peers whose ids spread as ids do."""
    return [PeerId(f"peer{number}") for number in range(start, start + count)]


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_is_a_multihash_of_stem_level_and_shard() -> None:
    assert Key(STEM, 4, 3).encoded() == bytes.fromhex("0022") + STEM + bytes((4, 3))
    assert parse_key(Key(STEM, 4, 3).encoded()) == Key(STEM, 4, 3)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        STEM + bytes((1, 0)),
        bytes.fromhex("0022") + STEM + bytes((3, 0)),
        bytes.fromhex("0022") + STEM + bytes((4, 4)),
        bytes.fromhex("1222") + STEM + bytes((1, 0)),
        bytes.fromhex("0022") + STEM + bytes((1, 0, 0)),
    ],
)
def test_what_is_no_key_is_none(raw: bytes) -> None:
    assert parse_key(raw) is None


@given(st.binary(max_size=40))
def test_parsing_takes_anything(raw: bytes) -> None:
    key = parse_key(raw)
    assert key is None or key.encoded() == raw


def test_a_stem_has_no_case_and_depends_on_both_names() -> None:
    assert stem_of("public", "Qwen3-8B") == STEM
    others = [("public", "qwen3-8c"), ("private", "qwen3-8b"), ("publicq", "wen3-8b"), ("", "publicqwen3-8b")]
    assert STEM not in [stem_of(*pair) for pair in others]


@given(st.sampled_from(LEVELS), st.integers(0, 10_000))
def test_a_peer_belongs_into_one_shard_of_each_level(shards: int, number: int) -> None:
    (peer,) = crowd(number, 1)
    assert [shard for shard in range(shards) if belongs(Key(STEM, shards, shard), peer)] == [
        shard_of(STEM, peer, shards)
    ]
    assert belongs(key_for(STEM, peer, shards), peer)


def test_peers_spread_over_the_shards() -> None:
    counts = [0] * 64
    for peer in crowd(0, 6400):
        counts[shard_of(STEM, peer, 64)] += 1
    assert 50 < min(counts) <= max(counts) < 150


# --- writers ------------------------------------------------------------------------------------


async def placed(outcomes: Sequence[Outcome]) -> tuple[Key | None, list[int]]:
    """Where a writer ends that meets ``outcomes``, and which levels it tried."""
    tried: list[int] = []

    async def write(key: Key) -> Outcome:
        assert belongs(key, PeerId("me"))
        tried.append(key.shards)
        return outcomes[len(tried) - 1]

    return await place(STEM, PeerId("me"), write), tried


async def test_a_writer_takes_the_smallest_level_with_room() -> None:
    key, tried = await placed([Outcome.FULL, Outcome.FULL, Outcome.PLACED])
    assert key == key_for(STEM, PeerId("me"), 4)
    assert tried == [1, 2, 4]


async def test_a_writer_passes_one_refusal_by_and_gives_up_at_the_second() -> None:
    assert (await placed([Outcome.REFUSED, Outcome.PLACED]))[1] == [1, 2]
    assert await placed([Outcome.REFUSED, Outcome.FULL, Outcome.REFUSED]) == (None, [1, 2, 4])


async def test_a_writer_that_finds_all_full_says_so() -> None:
    assert await placed([Outcome.FULL] * 7) == (None, list(LEVELS))


# --- readers ------------------------------------------------------------------------------------


class Shelf:
    """Records in one place, as if all of the mesh kept the same."""

    def __init__(self) -> None:
        self.records = ProviderRecords(600)

    async def provide(self, peers: Iterable[PeerId]) -> None:
        """Each in turn writes."""
        for peer in peers:

            async def write(key: Key, peer: PeerId = peer) -> Outcome:
                return Outcome.PLACED if self.records.add(key, hint(peer), None, 0) else Outcome.FULL

            await place(STEM, peer, write)

    def flood(self, peers: Iterable[PeerId]) -> None:
        """Each writes wherever it belongs."""
        for peer in peers:
            for shards in LEVELS:
                self.records.add(key_for(STEM, peer, shards), hint(peer), None, 0)

    async def find(self, enough: int = ENOUGH, besides: Iterable[PeerId] = ()) -> tuple[list[PeerId], int]:
        """Who is found, and after how many keys."""
        search = Search(STEM, enough, [*besides])
        keys = []

        async def read(key: Key) -> None:
            keys.append(key)
            search.take(key, self.records.get(key, 0))

        await search.run(read)
        return list(search.found), len(keys)


async def test_a_reader_stops_when_it_has_enough() -> None:
    shelf = Shelf()
    await shelf.provide(crowd(0, 100))
    found, keys = await shelf.find(enough=8)
    assert (len(found), keys) == (ROOM, 1)
    found, keys = await shelf.find(enough=21)
    assert keys == 3
    assert len(found) >= 21


async def test_a_reader_of_something_rare_asks_for_three_keys() -> None:
    shelf = Shelf()
    await shelf.provide(crowd(0, 2))
    assert await shelf.find() == (crowd(0, 2), 3)


@pytest.mark.parametrize("count", [1, 19, 20, 21, 30, 61, 200, 900])
async def test_all_honest_providers_can_be_found(count: int) -> None:
    shelf = Shelf()
    await shelf.provide(crowd(0, count))
    found, _ = await shelf.find(enough=10_000)
    assert sorted(found) == sorted(crowd(0, count))


async def test_hints_in_the_wrong_shard_and_without_address_do_not_count() -> None:
    peer = PeerId("peer")
    wrong = Key(STEM, 64, (shard_of(STEM, peer, 64) + 1) % 64)
    search = Search(STEM, 8, [])
    search.take(wrong, [hint(peer)])
    search.take(key_for(STEM, peer, 1), [Hint(peer=peer)])
    assert search.found == {}
    search.take(key_for(STEM, peer, 1), [hint(peer), hint(peer)])
    assert list(search.found.values()) == [hint(peer)]


async def rounds(shelf: Shelf, honest: PeerId) -> int | None:
    """How often a caller asks who passes what he found wanting as ``besides``; None when the honest one stays away."""
    wanting: set[PeerId] = set()
    for asked in range(1, 10):
        found, _ = await shelf.find(besides=wanting)
        if honest in found:
            return asked
        if not found:
            return None
        wanting |= set(found)
    return None


async def test_400_throw_away_records_do_not_hide_an_honest_provider() -> None:
    """Threats, row 16: at least 99 of 100. The flood comes first, and takes all it can at every level."""
    discovered = 0
    for number in range(100):
        shelf = Shelf()
        shelf.flood(crowd(1000 * number, 400))
        honest = PeerId(f"honest{number}")
        await shelf.provide([honest])
        asked = await rounds(shelf, honest)
        discovered += asked is not None and asked <= len(LEVELS)
    assert discovered >= 99


async def test_who_counts_unverified_hints_as_enough_finds_only_the_flood() -> None:
    """Why ``besides`` is there."""
    shelf = Shelf()
    shelf.flood(crowd(0, 400))
    await shelf.provide([PeerId("honest")])
    assert PeerId("honest") not in (await shelf.find(enough=ENOUGH))[0]


async def test_who_came_first_and_renews_stays() -> None:
    shelf = Shelf()
    await shelf.provide([PeerId("honest")])
    shelf.flood(crowd(0, 400))
    await shelf.provide([PeerId("honest")])
    assert PeerId("honest") in (await shelf.find())[0]
