"""Circuits: how long a peer is left alone, when it is tried again, what is remembered of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import PeerId
from meshnode.mesh import health
from meshnode.mesh.health import UNKNOWN, Health

BOB = PeerId("bob")


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_peer_never_asked_is_asked() -> None:
    told = Health(Clock())
    assert (told.avoided(BOB, 0.0), told.banned(BOB, 0.0), told.record(BOB)) == ("", False, UNKNOWN)


def test_failures_in_a_row_double_the_wait_up_to_a_minute() -> None:
    clock = Clock()
    told = Health(clock)
    waits = []
    for _ in range(9):
        told.began(BOB)
        told.failed(BOB, "stream_reset", "gave up")
        began = clock.now
        while told.avoided(BOB, clock.now):
            clock.now += 0.5
        waits.append(clock.now - began)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert told.record(BOB).failures == 9


def test_a_half_open_circuit_lets_one_request_through() -> None:
    clock = Clock()
    told = Health(clock)
    told.failed(BOB, "peer_failed", "hung")
    clock.now += 1
    assert told.avoided(BOB, clock.now) == ""
    told.began(BOB)
    assert "one request" in told.avoided(BOB, clock.now)
    told.succeeded(BOB, 0.5, 20.0)
    assert told.avoided(BOB, clock.now) == ""
    told.failed(BOB, "peer_failed", "hung")
    assert told.avoided(BOB, clock.now) == "failed, not asked for 1 s"


def test_a_trial_that_nobody_ended_is_over_after_a_while() -> None:
    clock = Clock()
    told = Health(clock)
    told.failed(BOB, "peer_failed", "hung")
    clock.now += 1
    told.began(BOB)
    clock.now += health.TRIAL_S
    assert told.avoided(BOB, clock.now) == ""


def test_a_busy_peer_has_not_failed_and_may_be_asked_at_once() -> None:
    clock = Clock()
    told = Health(clock)
    told.began(BOB)
    told.refused(BOB)
    assert (told.avoided(BOB, clock.now), told.record(BOB)) == ("", UNKNOWN)
    told.failed(BOB, "peer_failed", "hung")
    clock.now += 1
    told.began(BOB)
    told.refused(BOB)
    assert told.avoided(BOB, clock.now) == ""
    assert told.record(BOB).failures == 1


def test_a_violation_bans_for_a_minute_up_to_an_hour_and_success_does_not_lift_it() -> None:
    clock = Clock()
    told = Health(clock)
    waits = []
    for _ in range(8):
        until = told.violated(BOB, "an event for nobody")
        told.succeeded(BOB, None, None)
        assert told.banned(BOB, clock.now)
        assert told.avoided(BOB, clock.now).startswith("broke the protocol")
        waits.append(until - clock.now)
        clock.now = until
        assert not told.banned(BOB, clock.now)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    clock.now += 2 * health.FORGIVEN_AFTER_S
    assert told.violated(BOB, "again") - clock.now == 60


def test_who_is_banned_is_told_as_long_as_it_lasts() -> None:
    clock = Clock()
    told = Health(clock)
    told.failed(PeerId("ann"), "stream_reset", "once")
    until = told.violated(BOB, "lied")
    assert told.shunned(clock.now) == {BOB}
    assert told.shunned(until) == frozenset()
    for number in range(100):
        told.violated(PeerId(str(number)), "lied")
    assert told.shunned(clock.now) == {PeerId(str(number)) for number in range(100 - health.SHOWN, 100)}


def test_what_one_loss_ends_at_once_is_one_failure_in_a_row() -> None:
    clock = Clock()
    told = Health(clock)
    for _ in range(50):
        told.failed(BOB, "peer_unreachable", "the connection was lost")
    assert told.avoided(BOB, clock.now) == "failed, not asked for 1 s"
    assert told.record(BOB).failures == 50
    until = [told.violated(BOB, "spoke out of turn") for _ in range(50)]
    assert set(until) == {clock.now + health.FIRST_BAN_S}
    assert told.record(BOB).failures == 51


def test_the_history_averages_and_scores() -> None:
    told = Health(Clock())
    told.succeeded(BOB, 1.0, 10.0)
    told.succeeded(BOB, 2.0, None)
    history = told.record(BOB)
    assert (history.successes, history.decode_tps) == (2, 10.0)
    assert history.first_token_s == pytest.approx(1.2)
    assert history.score == 1.0
    told.failed(BOB, "stream_reset", "gave up\r\n" + "x" * 1000)
    history = told.record(BOB)
    assert history.failures == 1
    assert history.score == pytest.approx(0.8)
    assert history.last_failure.startswith("stream_reset: gave up??x")
    assert len(history.last_failure) == health.LONGEST_REASON


def test_memory_is_bounded_and_who_is_banned_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST_PEERS", 10)
    clock = Clock()
    told = Health(clock)
    told.violated(BOB, "spoke out of turn")
    for number in range(100):
        told.failed(PeerId(f"p{number}"), "peer_failed", "hung")
    assert told.banned(BOB, clock.now)
    assert told.record(PeerId("p0")) == UNKNOWN
    assert told.record(PeerId("p99")).failures == 1
    for number in range(100):
        told.violated(PeerId(f"v{number}"), "spoke out of turn")
    assert told.banned(PeerId("v99"), clock.now)
    assert not told.banned(PeerId("v0"), clock.now)


steps = st.lists(st.tuples(st.sampled_from(["began", "ok", "busy", "failed", "violated", "wait"]), st.floats(0, 4000)))


@given(steps)
def test_whatever_happens_nobody_is_avoided_for_ever(taken: list[tuple[str, float]]) -> None:
    clock = Clock()
    told = Health(clock)
    counted = sum(what in ("ok", "failed") for what, _ in taken)
    for what, amount in taken:
        match what:
            case "began":
                told.began(BOB)
            case "ok":
                told.succeeded(BOB, amount, amount)
            case "busy":
                told.refused(BOB)
            case "failed":
                told.failed(BOB, "peer_failed", "x")
            case "violated":
                counted += not told.banned(BOB, clock.now)
                assert told.violated(BOB, "x") > clock.now
                assert told.avoided(BOB, clock.now)
            case "wait":
                clock.now += amount
        assert 0 <= told.record(BOB).score <= 1
    assert told.avoided(BOB, clock.now + health.LONGEST_BAN_S) == ""
    history = told.record(BOB)
    assert history.successes + history.failures == counted
