"""Kademlia's table and its way to a key, without a network."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import PeerId
from meshnode.net.kad_table import WIDTH, Contact, Table, Walk, contact, position
from tests.kit.peers import ALICE, BOB, identity


def other(number: int, place: int | None = None) -> Contact:
    """A contact, where it happens to stand or at a place."""
    peer = identity(f"other {number}").peer_id
    return Contact(peer, (f"/ip4/192.0.2.1/tcp/{number + 1}",), contact(peer).position if place is None else place)


def test_a_contact_stands_at_the_hash_of_its_id() -> None:
    raw = bytes.fromhex("002408011220") + ALICE.peer_public
    assert contact(ALICE.peer_id).position == position(raw)
    assert position(raw) == int.from_bytes(hashlib.sha256(raw).digest(), "big")


def test_the_closest_come_closest_first() -> None:
    table = Table(ALICE.peer_id)
    every = [other(number) for number in range(40)]
    kept = [one for one in every if table.add(one, None)]
    target = position(b"target")
    expected = sorted(kept, key=lambda one: one.position ^ target)
    assert table.closest(target) == expected[:WIDTH]
    assert table.closest(target, 3) == expected[:3]
    assert len(table) == len(kept)


def test_we_are_not_in_our_own_table_and_a_bucket_keeps_whom_it_has() -> None:
    table = Table(ALICE.peer_id)
    assert not table.add(contact(ALICE.peer_id), None)
    far = contact(ALICE.peer_id).position ^ 1 << 255  # whoever differs in the first bit stands in one bucket
    crowd = [other(number, far ^ number) for number in range(30)]
    crowd = [one for one in crowd if contact(one.peer).position >> 255 != contact(ALICE.peer_id).position >> 255]
    for number in range(30, 200):
        one = other(number)
        if one.position >> 255 != contact(ALICE.peer_id).position >> 255:
            crowd.append(one)
    added = [table.add(one, None) for one in crowd[:40]]
    assert added == [True] * WIDTH + [False] * (len(added) - WIDTH)
    table.remove(crowd[0].peer)
    assert table.get(crowd[0].peer) is None
    assert table.add(crowd[25], None)


def test_an_update_keeps_the_addresses_that_are_known() -> None:
    table = Table(ALICE.peer_id)
    table.add(contact(BOB.peer_id, ["/ip4/192.0.2.1/tcp/1"]), None)
    assert table.add(contact(BOB.peer_id), None)
    known = table.get(BOB.peer_id)
    assert known is not None
    assert known.addresses == ("/ip4/192.0.2.1/tcp/1",)
    table.add(contact(BOB.peer_id, ["/ip4/192.0.2.2/tcp/1"]), None)
    known = table.get(BOB.peer_id)
    assert known is not None
    assert known.addresses == ("/ip4/192.0.2.2/tcp/1",)


def test_one_subnet_gets_two_places_in_a_bucket_and_eight_in_all() -> None:
    table = Table(ALICE.peer_id)
    every = [other(number) for number in range(300)]
    kept = [one for one in every if table.add(one, "8.8.4.0/24")]
    buckets = [(one.position ^ contact(ALICE.peer_id).position).bit_length() for one in kept]
    assert len(kept) == 8
    assert max(buckets.count(number) for number in buckets) == 2


# --- walks --------------------------------------------------------------------------------------


def walk_through(count: int, seed: int, dead: frozenset[int]) -> tuple[list[PeerId], list[PeerId], int]:
    """A walk in a mesh whose members know some others: whom it ends with, whom it should, and how many were asked."""
    rng = random.Random(seed)
    mesh = [other(number) for number in range(count)]
    target = position(b"%d" % seed)
    knows: dict[PeerId, list[Contact]] = {}
    for one in mesh:
        near = sorted(mesh, key=lambda c: c.position ^ one.position)[1 : WIDTH + 1]
        knows[one.peer] = [*near, *rng.sample(mesh, min(20, count))]
    gone = {mesh[number].peer for number in dead if number}
    walk, asked = Walk(target, [mesh[0]]), 0
    while not walk.over:
        one_asked = walk.take()
        assert one_asked is not None  # one at a time: while it is not over there is somebody to ask
        asked += 1
        if one_asked.peer in gone:
            walk.failed(one_asked.peer)
        else:
            told = sorted(knows[one_asked.peer], key=lambda c: c.position ^ target)[:WIDTH]
            walk.answered(one_asked.peer, told)
    alive = sorted((one for one in mesh if one.peer not in gone), key=lambda c: c.position ^ target)
    return [one.peer for one in walk.closest], [one.peer for one in alive[:WIDTH]], asked


def test_a_walk_ends_at_the_closest() -> None:
    for seed in range(10):
        found, right, asked = walk_through(200, seed, frozenset())
        assert len(set(found) & set(right)) >= WIDTH - 1
        assert asked < 64


def test_a_walk_passes_the_dead_by() -> None:
    for seed in range(10):
        dead = frozenset(random.Random(seed).sample(range(100), 33))
        found, right, _ = walk_through(100, seed, dead)
        assert len(set(found) & set(right)) >= WIDTH // 2  # they, too, tell of the dead


@given(st.integers(0, 100))
def test_a_walk_asks_no_more_than_64_whatever_it_is_told(seed: int) -> None:
    target = position(b"%d" % seed)
    walk = Walk(target, [Contact(PeerId("first"), (), 1 << 255)])
    asked = 0
    while not walk.over:
        one = walk.take()
        assert one is not None
        asked += 1
        walk.answered(
            one.peer, [Contact(PeerId(f"{asked}/{i}"), (), target ^ (1 << 254 - asked) + i) for i in range(20)]
        )
    assert asked == 64


def test_a_walk_waits_for_answers_before_it_is_over() -> None:
    walk = Walk(0, [contact(ALICE.peer_id)])
    assert walk.take() is not None
    assert walk.take() is None
    before = walk.over
    walk.answered(ALICE.peer_id, [contact(BOB.peer_id)])
    second = walk.take()
    assert second is not None
    assert second.peer == BOB.peer_id
    walk.failed(BOB.peer_id)
    assert (before, walk.over) == (False, True)
    assert [one.peer for one in walk.closest] == [ALICE.peer_id]
