"""What others tell of a peer's whereabouts is kept within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.domain import PeerId
from meshnode.net.addressbook import MOST_ADDRESSES, AddressBook, believed, is_local, whereabouts
from meshnode.net.memory import open_network
from tests.kit.peers import ALICE, BOB, CAROL

HERE = [
    "/ip4/127.0.0.1/tcp/22",
    "/ip4/127.9.9.9/tcp/22",
    "/ip6/::1/tcp/22",
    "/ip6/::ffff:127.0.0.1/tcp/22",
    "/dns4/localhost/tcp/22",
    "/dns/LocalHost./tcp/22",
    "/dns6/a.localhost/tcp/22",
]
"""What names this machine to whoever hears it."""


def at(number: int, peer: str = BOB.peer_id) -> str:
    return f"/ip4/192.0.2.{number}/tcp/9338/p2p/{peer}"


def hosts(book: AddressBook) -> list[str]:
    return [address.host for address in book.of(BOB.peer_id)]


def test_only_what_can_be_dialled_and_names_the_peer_is_noted() -> None:
    book = AddressBook()
    wrong = [
        "",
        "192.0.2.1:9338",
        "/ip4/192.0.2.1/tcp/9338",
        at(1, CAROL.peer_id),
        at(1).replace("9338", "0"),
        f"/ip4/0.0.0.0/tcp/9338/p2p/{BOB.peer_id}",
        f"/ip6/::/tcp/9338/p2p/{BOB.peer_id}",
    ]
    book.learn(BOB.peer_id, [*wrong, at(7), f"/dns4/bob.example.org/tcp/443/p2p/{BOB.peer_id}"])
    assert [str(address) for address in book.of(BOB.peer_id)] == [
        "/ip4/192.0.2.7/tcp/9338",
        "/dns4/bob.example.org/tcp/443",
    ]
    assert book.of(CAROL.peer_id) == ()


def test_the_latest_told_come_first_and_the_oldest_go() -> None:
    book = AddressBook()
    book.learn(BOB.peer_id, [at(number) for number in range(1, 9)])
    book.learn(BOB.peer_id, [at(9), at(3)])
    assert hosts(book) == [f"192.0.2.{number}" for number in (9, 3, 1, 2, 4, 5, 6, 7)]


@given(st.lists(st.lists(st.integers(0, 20), max_size=12), max_size=9))
def test_there_are_never_more_than_eight_nor_any_twice(told: list[list[int]]) -> None:
    book = AddressBook()
    for numbers in told:
        book.learn(BOB.peer_id, [at(number) for number in numbers])
        assert hosts(book)[: len(set(numbers))] == [f"192.0.2.{n}" for n in dict.fromkeys(numbers)][:MOST_ADDRESSES]
    assert len(hosts(book)) == len(set(hosts(book))) <= MOST_ADDRESSES


def test_who_was_not_told_of_for_longest_is_forgotten() -> None:
    book = AddressBook(most_peers=2)
    for who in (ALICE, BOB, ALICE, CAROL):
        book.learn(who.peer_id, [at(1, who.peer_id)])
    book.learn(BOB.peer_id, ["nonsense"])
    assert [bool(book.of(who.peer_id)) for who in (ALICE, BOB, CAROL)] == [True, False, True]


@pytest.mark.parametrize("address", HERE)
def test_loopback_is_believed_of_who_came_over_loopback_alone(address: str) -> None:
    for told in (address, f"{address}/p2p/{BOB.peer_id}"):
        assert believed(BOB.peer_id, [told], local=False) == ()
        assert believed(BOB.peer_id, [told], local=True) == (f"{address}/p2p/{BOB.peer_id}",)


@pytest.mark.parametrize("local", [False, True])
def test_what_is_believed_names_the_peer_and_can_be_dialled(local: bool) -> None:
    good = ["/ip4/198.51.100.7/tcp/9338", "/ip4/10.0.0.7/tcp/9338", "/dns4/localhost.example.org/tcp/443"]
    bad = [
        "nonsense",
        "/ip4/0.0.0.0/tcp/22",
        "/ip6/::/tcp/22",
        "/ip6/::ffff:0.0.0.0/tcp/22",
        "/ip4/198.51.100.7/tcp/0",
        "/ip4/198.51.100.7/udp/9338/quic-v1",
        f"{good[0]}/p2p/{CAROL.peer_id}",
    ]
    whole = tuple(f"{address}/p2p/{BOB.peer_id}" for address in good)
    assert believed(BOB.peer_id, [*bad, *good, *whole], local=local) == whole
    book = AddressBook()
    book.learn(BOB.peer_id, whole)
    assert [str(address) for address in book.of(BOB.peer_id)] == good


async def test_local_is_who_is_connected_over_loopback(autojump_clock: MockClock) -> None:
    async with (
        open_network() as network,
        network.open_host(ALICE, ["/ip4/127.0.0.1/tcp/9338"]) as alice,
        network.open_host(CAROL, ["/ip4/10.0.0.3/tcp/9338"]) as carol,
        network.open_host(BOB, ["/ip4/10.0.0.2/tcp/9338"]) as bob,
    ):
        for other in (alice, carol):
            await bob.connect(other.addresses[0])
        assert is_local(bob, ALICE.peer_id)
        assert not is_local(bob, CAROL.peer_id)
        here, there = (
            f"{address}/p2p/{CAROL.peer_id}" for address in ("/ip4/127.0.0.1/tcp/22", "/ip4/192.0.2.7/tcp/1")
        )
        assert whereabouts(bob, CAROL.peer_id, [here, there, *carol.addresses]) == (*carol.addresses, there)
        assert whereabouts(carol, BOB.peer_id, ["nonsense"]) == ()
        await bob.disconnect(ALICE.peer_id)
        assert not is_local(bob, ALICE.peer_id)
        assert not is_local(bob, PeerId("nobody"))
