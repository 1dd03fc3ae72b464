"""Provider records: who may stand where, for how long, and how much all of it weighs."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import PeerId
from meshnode.net.directory import ROOM, Hint, Key, key_for, shard_of, stem_of
from meshnode.net.provider_records import Bucket, Caps, ProviderRecords, Window, subnet_of, usable
from tests.kit.peers import ALICE, BOB

STEM = stem_of("public", "m")
ONE = Key(STEM, 1, 0)


def hint(name: object) -> Hint:
    """A record of somebody."""
    return Hint(peer=PeerId(f"peer{name}"), addresses=(f"/ip4/192.0.2.1/tcp/9338/p2p/peer{name}",))


def names(records: ProviderRecords, key: Key = ONE, now: float = 0) -> list[PeerId]:
    """Who stands under a key."""
    return [one.peer for one in records.get(key, now)]


def test_a_record_is_kept_until_it_expires_or_is_renewed() -> None:
    records = ProviderRecords(600)
    assert records.add(ONE, hint(1), None, 0)
    assert names(records, now=599) == ["peer1"]
    assert records.add(ONE, hint(1), None, 599)
    assert names(records, now=1198) == ["peer1"]
    assert names(records, now=1199) == []
    assert records.add(ONE, hint(2), None, 1300)
    assert len(records) == 1


def test_a_record_in_another_shard_or_without_address_is_refused() -> None:
    records = ProviderRecords(600)
    shard = shard_of(STEM, hint(1).peer, 4)
    assert [records.add(Key(STEM, 4, s), hint(1), None, 0) for s in range(4)] == [s == shard for s in range(4)]
    assert not records.add(ONE, Hint(peer=PeerId("peer2")), None, 0)
    assert len(records) == 1


def test_a_key_has_room_for_twenty_and_who_was_first_stays() -> None:
    records = ProviderRecords(600)
    assert [records.add(ONE, hint(number), None, 0) for number in range(30)] == [True] * ROOM + [False] * 10
    assert records.add(ONE, hint(3), None, 300)
    assert not records.add(ONE, hint(25), None, 300)
    assert records.add(ONE, hint(25), None, 601)
    assert names(records, now=601) == ["peer3", "peer25"]


def test_one_peer_one_subnet_and_all_together_have_bounds() -> None:
    caps = Caps(records=12, per_peer=3, per_subnet=5, per_subnet_and_key=2)
    records = ProviderRecords(600, caps)
    keys = [key_for(stem_of("n", f"m{number}"), hint(0).peer, 1) for number in range(5)]
    assert [records.add(key, hint(0), None, 0) for key in keys] == [True, True, True, False, False]
    assert [records.add(ONE, hint(number), "net", 0) for number in range(1, 4)] == [True, True, False]
    others = [key_for(stem_of("o", f"m{number}"), hint(9).peer, 1) for number in range(4)]
    assert [records.add(key, hint(10 + i), "net", 0) for i, key in enumerate(others)] == [True, True, True, False]
    assert [records.add(keys[4], hint(20 + i), None, 0) for i in range(6)] == [True] * 4 + [False] * 2
    assert len(records) == 12


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 300)), max_size=60))
def test_the_counts_are_those_of_what_is_there(steps: list[tuple[int, int, int]]) -> None:
    records, now, caps = ProviderRecords(600, Caps(records=8, per_peer=3)), 0, 8
    for peer, name, later in steps:
        now += later
        records.add(key_for(stem_of("n", str(name)), hint(peer).peer, 1), hint(peer), f"net{peer % 2}", now)
        held = sum(len(entries) for entries in records._keys.values())
        assert len(records) == held <= caps
        assert sum(records._of_peer.values()) == sum(records._of_subnet.values()) == held


def test_a_full_store_weighs_no_more_than_sixteen_mebibytes() -> None:
    """Threats, row 18: a fill by many peers, each record as long as it may be, measured."""
    records = ProviderRecords(600)
    tracemalloc.start()
    try:
        for number in range(20_000):
            peer = PeerId(f"12D3KooW{number:044}")
            texts = [f"/dns4/{'x' * 20}{number}{part}.example/tcp/9338/p2p/{peer}" for part in range(2)]
            stem = stem_of("n", str(number // 200))
            records.add(key_for(stem, peer, 64), Hint(peer=peer, addresses=tuple(texts)), None, 0)
        weight, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) > 10_000
    assert weight < 16 << 20
    assert weight / len(records) < 1024


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2, burst=3)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 5), max_size=60))
def test_a_window_never_lets_more_through_than_it_may(pauses: list[float]) -> None:
    window, now, times = Window(3, 10), 0.0, []
    for pause in pauses:
        now += pause + window.wait(now + pause)
        window.note(now)
        times.append(now)
    assert all(later - earlier >= 10 - 1e-6 for earlier, later in zip(times, times[3:], strict=False))


def test_addresses_are_made_whole_and_what_cannot_be_dialled_is_left_out() -> None:
    good = "/ip4/198.51.100.7/tcp/9338"
    bad = [
        "nonsense",
        "/ip4/0.0.0.0/tcp/9338",
        "/ip4/198.51.100.7/tcp/0",
        f"{good}/p2p/{BOB.peer_id}",
        "/ip4/198.51.100.7/udp/9338/quic-v1",
    ]
    assert usable(ALICE.peer_id, [*bad, good, good], local=False) == (f"{good}/p2p/{ALICE.peer_id}",)


@pytest.mark.parametrize("address", ["/ip4/127.0.0.1/tcp/22", "/ip6/::1/tcp/22"])
def test_loopback_is_believed_only_over_loopback(address: str) -> None:
    assert usable(ALICE.peer_id, [address], local=False) == ()
    assert usable(ALICE.peer_id, [address], local=True) == (f"{address}/p2p/{ALICE.peer_id}",)


def test_only_so_many_addresses_count() -> None:
    many = usable(ALICE.peer_id, [f"/ip4/198.51.100.{n}/tcp/9338" for n in range(1, 9)], local=False)
    assert len(many) == 3  # a fourth would be past 256 characters
    long = [f"/dns4/{'x' * 190}/tcp/9338"] * 2
    assert len(usable(ALICE.peer_id, long, local=False)) <= 1


@pytest.mark.parametrize(
    ("address", "subnet"),
    [
        ("/ip4/8.8.4.4/tcp/1", "8.8.4.0/24"),
        ("/ip6/2a00:1450:4001:81b::1/tcp/1", "2a00:1450:4001::/48"),
        ("/ip4/192.168.1.1/tcp/1", None),
        ("/ip4/127.0.0.1/tcp/1", None),
        ("/dns4/example.org/tcp/1", None),
    ],
)
def test_a_subnet_is_a_part_of_the_internet(address: str, subnet: str | None) -> None:
    assert subnet_of(address) == subnet
