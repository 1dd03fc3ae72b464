"""Who is let in, who is banned for how long, and that refusals do not fill the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from meshnode.domain import PeerId
from meshnode.errors import Unreachable
from meshnode.net.doorkeeper import MOST_BANS, Doorkeeper, Gate, everybody, nobody
from tests.kit.peers import ALICE, BOB


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def own() -> frozenset[str]:
    return frozenset({"192.0.2.2", "fd00::2", "fe80::1%eth0"})


@pytest.mark.parametrize(
    ("host", "let_in"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.2", True),
        ("::ffff:192.0.2.2", True),
        ("fd00::2", True),
        ("FD00:0:0::2", True),
        ("fe80::1%eth1", True),
        ("192.0.2.3", False),
        ("::ffff:192.0.2.3", False),
        ("10.0.0.1", False),
        ("fd00::3", False),
        ("0.0.0.0", False),
        ("", False),
        ("localhost", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_a_closed_door_lets_in_this_machine_alone(host: str, let_in: bool) -> None:
    door = Doorkeeper(own, Clock())
    assert door(host) is let_in
    door.open = True
    assert door(host)
    door.open = False
    assert door(host) is let_in


OURS = {address.partition("%")[0] for address in own()}
"""Without the interface, which a door does not look at."""


@given(st.ip_addresses().filter(lambda address: not address.is_loopback and str(address) not in OURS))
def test_no_address_from_elsewhere_passes_a_closed_door(address: object) -> None:
    if getattr(address, "ipv4_mapped", None) is None:
        assert not Doorkeeper(own, Clock())(str(address))


def test_the_interfaces_are_asked_only_where_it_matters() -> None:
    def unknown() -> frozenset[str]:
        raise AssertionError("asked")

    door = Doorkeeper(unknown, Clock())
    assert door("127.0.0.1")
    door.open = True
    assert door("192.0.2.9")


def test_a_ban_lasts_as_long_as_was_said_last() -> None:
    clock = Clock()
    door = Doorkeeper(own, clock)
    assert not door.blocked(BOB.peer_id)
    door.block(BOB.peer_id, 1010.0)
    clock.now = 1009.9
    assert door.blocked(BOB.peer_id)
    assert not door.blocked(ALICE.peer_id)
    clock.now = 1010.0
    assert not door.blocked(BOB.peer_id)
    door.block(BOB.peer_id, 1100.0)
    door.block(BOB.peer_id, 1020.0)
    clock.now = 1020.0
    assert not door.blocked(BOB.peer_id)
    door.block(BOB.peer_id, 1100.0)
    door.block(BOB.peer_id, 0.0)
    assert not door.blocked(BOB.peer_id)


def test_bans_are_bounded_and_those_that_end_soonest_go() -> None:
    clock = Clock()
    door = Doorkeeper(own, clock)
    for number in range(MOST_BANS + 1):
        door.block(PeerId(str(number)), clock.now + 60 + (number * 7919) % (MOST_BANS + 1))
    free = [number for number in range(MOST_BANS + 1) if not door.blocked(PeerId(str(number)))]
    assert len(free) == 1
    assert all((free[0] * 7919) % (MOST_BANS + 1) <= (n * 7919) % (MOST_BANS + 1) for n in range(MOST_BANS))
    clock.now += 2 * MOST_BANS
    door.block(BOB.peer_id, clock.now + 1)
    assert list(door._bans) == [BOB.peer_id]


def test_the_gate_asks_both_and_defaults_let_everything_pass() -> None:
    door = Doorkeeper(own, Clock())
    door.block(BOB.peer_id, 2000.0)
    gate = Gate(door, door.blocked, Clock())
    assert (gate.lets_in("127.0.0.1"), gate.lets_in("192.0.2.9")) == (True, False)
    assert (gate.lets_out("127.0.0.1"), gate.lets_out("192.0.2.9")) == (True, False)
    assert (gate.bars(BOB.peer_id), gate.bars(ALICE.peer_id)) == (True, False)
    gate.check(ALICE.peer_id)
    with pytest.raises(Unreachable, match="blocked for a time"):
        gate.check(BOB.peer_id)
    anyone = Gate(everybody, nobody, Clock())
    assert anyone.lets_in("192.0.2.9")
    assert not anyone.bars(BOB.peer_id)


def test_a_thousand_refusals_are_one_line_a_minute() -> None:
    clock = Clock()
    gate = Gate(lambda host: False, lambda peer: True, clock)
    with capture_logs() as logs:
        for _ in range(500):
            assert not gate.lets_in("192.0.2.9")
            assert gate.bars(BOB.peer_id)
        assert len(logs) == 1
        clock.now += 60
        assert gate.bars(BOB.peer_id)
    said = [(entry["event"], entry["refused"]) for entry in logs]
    assert said == [("inbound_refused", 1), ("inbound_refused", 1000)]
    assert (logs[0]["host"], logs[1]["peer"]) == ("192.0.2.9", BOB.peer_id)
