"""Nothing but a refusal comes of bytes that a peer made up, and honest ends are never refused."""

from __future__ import annotations

import resource
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.errors import ProtocolViolation
from meshnode.wire import messages as m
from meshnode.wire import session as judge
from meshnode.wire.session import REQUEST, Session
from wiring import fuzzing

CASES = {name: {"messages in any order": 200, "damaged session": 300}.get(name, 1000) for name in fuzzing.CASES}
"""5,500 in all."""


@pytest.mark.parametrize("name", fuzzing.CASES)
def test_seeded_cases(name: str) -> None:
    case = fuzzing.CASES[name][0]
    outcomes = Counter(case(Random(f"suite {name} {number}")) for number in range(CASES[name]))
    assert outcomes[False] > CASES[name] // 100, "some are refused"
    if name not in ("garbage", "messages in any order"):
        assert outcomes[True] > CASES[name] // 100, "some are taken, so that more is reached than the first check"


def test_enough_cases_are_run() -> None:
    assert sum(CASES.values()) >= 2000


@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_any_bytes_at_all(data: bytes, seed: int) -> None:
    decoder, start = Random(seed).choice(fuzzing.corpus())
    fuzzing.read(decoder, data)
    fuzzing.read(decoder, start[: seed % (len(start) + 1)] + data)


@given(st.integers(0, 2**64), st.integers(100, 400))
@settings(max_examples=100)
def test_honest_ends_are_never_refused(seed: int, steps: int) -> None:
    assert fuzzing.session(Random(seed), steps=steps, damage=0.0)


@given(st.integers(0, 2**64), st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=100)
def test_a_damaged_road_ends_in_a_violation_or_harms_nobody(seed: int, damage: float) -> None:
    fuzzing.session(Random(seed), steps=200, damage=damage)


def test_honest_ends_reach_every_place_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else that they are never refused would say little."""
    reached: set[tuple[object, str]] = set()
    step = Session._step

    def noted(self: Session, number: int, happening: str) -> None:
        reached.add((self.state(number), happening))
        step(self, number, happening)

    monkeypatch.setattr(judge.Session, "_step", noted)
    for seed in range(150):
        assert fuzzing.session(Random(f"reach {seed}"), steps=400, damage=0.0)
    assert reached == set(REQUEST)


def test_a_stream_of_the_largest_frames_is_held_one_at_a_time() -> None:
    session, frame = Session(judge.Role.CALLER), m.FRAME.to_bytes(4, "big") + bytes(m.FRAME)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(0, len(frame) - 1, 1 << 16):
        assert list(session.receive(frame[start : min(start + (1 << 16), len(frame) - 1)])) == []
        assert session.pending <= m.FRAME + 4
    with pytest.raises(ProtocolViolation):
        list(session.receive(frame[-1:] + frame * 8))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
