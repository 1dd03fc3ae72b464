"""Discovery on the link: what is announced and believed, and two real instances that hear each other over loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock
from zeroconf import ServiceInfo, Zeroconf

from meshnode.domain import PeerId
from meshnode.errors import ConfigError
from meshnode.net import lan
from meshnode.net.lan import QUEUE, REPEAT_S, SERVICE, Lan, describe, open_lan, stays_here, told
from tests.kit.peers import ALICE, BOB, CAROL, identity

TAG, OTHER = "ab" * 16, "cd" * 16
DAVE = identity("dave")


def at(host: str, peer: str = BOB.peer_id, port: int = 9338) -> str:
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}/p2p/{peer}"


def loopback(peer: PeerId) -> tuple[str, ...]:
    return (at("127.0.0.1", peer),)


def records(*addresses: str, peer: str = BOB.peer_id, tag: str = TAG) -> dict[bytes, bytes | None]:
    """TXT records as they arrive."""
    told = {f"a{number}".encode(): text.partition("/p2p/")[0].encode() for number, text in enumerate(addresses)}
    return {b"id": peer.encode(), b"net": tag.encode(), **told}


# --- what is said, and what is believed -----------------------------------------------------------


def test_what_is_announced_is_what_others_believe() -> None:
    info = describe(BOB.peer_id, [at("192.0.2.7"), at("fd00::7"), at("192.0.2.7", port=9339)], TAG)
    assert info is not None
    assert info.name == f"{BOB.peer_id}.{SERVICE}"
    assert info.port == 9338
    assert info.parsed_addresses() == ["192.0.2.7", "fd00::7"]
    assert set(info.properties) == {b"id", b"net", b"a0", b"a1", b"a2"}
    assert told(info.properties, TAG, ALICE.peer_id) == (at("192.0.2.7"), at("fd00::7"), at("192.0.2.7", port=9339))
    assert told(info.properties, OTHER, ALICE.peer_id) == ()
    assert told(info.properties, TAG, BOB.peer_id) == (), "ourselves"


NOT_FOR_THE_LINK = (
    at("0.0.0.0"),
    at("::"),
    at("fe80::1"),
    at("169.254.1.2"),
    at("224.0.0.251"),
    at("192.0.2.7", port=0),
    at("::ffff:127.0.0.1"),
    f"/dns4/bob.example.org/tcp/9338/p2p/{BOB.peer_id}",
)


@pytest.mark.parametrize("address", NOT_FOR_THE_LINK)
def test_what_nobody_on_the_link_could_dial_is_neither_told_nor_believed(address: str) -> None:
    assert describe(BOB.peer_id, [address], TAG) is None
    assert told(records(address), TAG, ALICE.peer_id) == ()
    info = describe(BOB.peer_id, [address, at("192.0.2.7")], TAG)
    assert info is not None
    assert told(info.properties, TAG, ALICE.peer_id) == (at("192.0.2.7"),)


def test_loopback_is_told_and_believed_only_among_those_who_stay_there() -> None:
    assert stays_here([at("127.0.0.1"), at("::1")])
    assert not stays_here([at("127.0.0.1"), at("192.0.2.7")])
    assert not stays_here([])
    alone = describe(BOB.peer_id, [at("127.0.0.1")], TAG)
    assert alone is not None
    assert told(alone.properties, TAG, ALICE.peer_id, only_loopback=True) == (at("127.0.0.1"),)
    assert told(alone.properties, TAG, ALICE.peer_id) == ()
    both = describe(BOB.peer_id, [at("127.0.0.1"), at("192.0.2.7")], TAG)
    assert both is not None
    assert told(both.properties, TAG, ALICE.peer_id) == (at("192.0.2.7"),)


def test_eight_addresses_are_told_and_read() -> None:
    many = [at(f"192.0.2.{number}") for number in range(1, 12)]
    info = describe(BOB.peer_id, many, TAG)
    assert info is not None
    assert told(info.properties, TAG, ALICE.peer_id) == tuple(many[:8])
    assert told(records(*many), TAG, ALICE.peer_id) == tuple(many[:8])


values = st.none() | st.binary(max_size=80) | st.sampled_from([b"/ip4/192.0.2.7/tcp/9338", BOB.peer_id.encode()])


@given(st.dictionaries(st.sampled_from([b"id", b"net", b"a0", b"a1", b"a7", b"x"]), values))
def test_garbage_is_nobody(properties: dict[bytes, bytes | None]) -> None:
    assert told(properties, TAG, ALICE.peer_id) == ()
    found = told({**properties, b"net": TAG.encode()}, TAG, ALICE.peer_id)
    assert found == () or set(found) == {at("192.0.2.7")}


@pytest.mark.parametrize("tag", ["", "public", "AB" * 16, "ab" * 32, "ab" * 7, "ab" * 16 + "\n"])
async def test_what_is_no_tag_does_not_get_out(tag: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), tag):
            pass


async def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        async with open_lan(ALICE.peer_id, ["127.0.0.1:9338"], TAG):
            pass


# --- handing over ---------------------------------------------------------------------------------


async def test_nothing_is_given_twice_within_a_minute(autojump_clock: MockClock) -> None:
    found = Lan(ALICE.peer_id, (), TAG)
    for _ in range(3):
        found.note([at("192.0.2.7")])
        await trio.sleep(REPEAT_S / 3 - 1)
    found.note([at("192.0.2.8")])
    assert [found.found.receive_nowait() for _ in range(2)] == [at("192.0.2.7"), at("192.0.2.8")]
    await trio.sleep(4)
    found.note([at("192.0.2.7"), at("192.0.2.8")])
    assert found.found.receive_nowait() == at("192.0.2.7")
    with pytest.raises(trio.WouldBlock):
        found.found.receive_nowait()


async def test_what_nobody_reads_is_dropped_counted_and_not_lost_for_good(autojump_clock: MockClock) -> None:
    await trio.lowlevel.checkpoint()
    found = Lan(ALICE.peer_id, (), TAG)
    many = [at(f"192.0.{number // 250}.{number % 250}") for number in range(5000)]
    found.note(many)
    assert found.dropped == 5000 - QUEUE
    assert [found.found.receive_nowait() for _ in range(QUEUE)] == many[:QUEUE]
    found.note(many[:70])
    assert found.found.receive_nowait() == many[QUEUE]


async def test_what_is_remembered_is_bounded(autojump_clock: MockClock) -> None:
    await trio.lowlevel.checkpoint()
    found = Lan(ALICE.peer_id, (), TAG)
    for number in range(5000):
        found.note([at(f"192.0.{number // 250}.{number % 250}")])
        found.found.receive_nowait()
    assert len(found._seen) <= 1024


async def test_hearing_something_at_the_very_end_is_no_failure() -> None:
    await trio.lowlevel.checkpoint()
    found = Lan(ALICE.peer_id, (), TAG)
    found.found.close()
    found.note([at("192.0.2.7")])
    found._send.close()
    found.note([at("192.0.2.7")])


# --- over loopback --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    """zeroconf has two threads per instance."""
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if "_run_loop" in name or "zeroconf" in name]


async def test_two_of_one_network_find_each_other_whoever_came_first() -> None:
    with trio.fail_after(30):
        async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG) as alice:
            async with open_lan(BOB.peer_id, loopback(BOB.peer_id), TAG) as bob:
                assert await alice.found.receive() == at("127.0.0.1", BOB.peer_id)
                assert await bob.found.receive() == at("127.0.0.1", ALICE.peer_id)
            with pytest.raises(trio.EndOfChannel):
                await bob.found.receive()
            async with open_lan(CAROL.peer_id, loopback(CAROL.peer_id), TAG) as carol:
                assert await alice.found.receive() == at("127.0.0.1", CAROL.peer_id)
                assert await carol.found.receive() == at("127.0.0.1", ALICE.peer_id), "Bob has said goodbye"


async def test_another_network_is_not_found() -> None:
    with trio.fail_after(30):
        async with (
            open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG) as alice,
            open_lan(DAVE.peer_id, loopback(DAVE.peer_id), OTHER) as dave,
            open_lan(BOB.peer_id, loopback(BOB.peer_id), OTHER),
        ):
            assert await dave.found.receive() == at("127.0.0.1", BOB.peer_id)
            async with open_lan(CAROL.peer_id, loopback(CAROL.peer_id), TAG):
                assert await alice.found.receive() == at("127.0.0.1", CAROL.peer_id)
                with pytest.raises(trio.WouldBlock):
                    alice.found.receive_nowait()


async def test_garbage_on_the_link_disturbs_nobody() -> None:
    def litter() -> None:
        with Zeroconf(interfaces=["127.0.0.1"]) as stranger:
            for name, properties in (("x", {}), ("y", {"net": TAG, "id": b"\xff\x00", "a0": b"\xff"}), ("z", b"\xff")):
                info = ServiceInfo(SERVICE, f"{name}.{SERVICE}", port=1, properties=properties)
                stranger.register_service(info, cooperating_responders=True)

    with trio.fail_after(30):
        async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG) as alice:
            await trio.to_thread.run_sync(litter)
            async with open_lan(BOB.peer_id, loopback(BOB.peer_id), TAG):
                assert await alice.found.receive() == at("127.0.0.1", BOB.peer_id)


async def test_without_multicast_there_is_one_line_and_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(only_loopback: bool) -> Zeroconf:
        raise OSError(19, "No such device")

    monkeypatch.setattr(lan, "_tune_in", fail)
    with capture_logs() as logs, trio.fail_after(10):
        async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG) as alice:
            with trio.move_on_after(0.5) as patience:
                await alice.found.receive()
            assert patience.cancelled_caught
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("lan_discovery_off", "OSError: [Errno 19] No such device")
    ]


async def test_what_fails_in_the_block_comes_out_as_it_is() -> None:
    with trio.fail_after(10), pytest.raises(LookupError, match="mine"):
        async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG):
            raise LookupError("mine")


async def test_leaving_at_once_leaves_nothing() -> None:
    with trio.fail_after(10):
        for _ in range(3):
            async with open_lan(ALICE.peer_id, loopback(ALICE.peer_id), TAG):
                await trio.lowlevel.checkpoint()
