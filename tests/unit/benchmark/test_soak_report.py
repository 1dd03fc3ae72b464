"""Each verdict can go wrong."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from benchmark.soak_report import Checks, MiB, Sample, checked, growth, lines

REST = {"running": 0, "waiting": 0, "restarts": 0}


def good() -> Checks:
    samples = [Sample(float(at), 100 * MiB, 300 * MiB) for at in range(100)]
    return Checks(asked=Counter(greedy=3), equal=2, margins=[0.01], samples=samples, rest=REST)


def wrong(checks: Checks) -> list[str]:
    return [check.title for check in checked(checks) if not check.right]


def test_a_good_soak_is_right_in_all() -> None:
    assert wrong(good()) == []
    assert "3 requests" in lines(good())[0]


def test_each_fault_shows() -> None:
    bad = good()
    bad.faults = [f"x{number}" for number in range(30)]
    bad.margins = [0.7]
    bad.rest = REST | {"running": 1}
    bad.samples = [Sample(float(at), 100 * MiB + at * MiB, 300 * MiB) for at in range(100)]
    assert len(wrong(bad)) == 4
    assert "memory flat: daemon" in wrong(bad)
    assert lines(bad)[-1].strip() == "and 10 more"


def test_nothing_compared_is_not_right() -> None:
    assert len(wrong(Checks())) == 2


def test_growth_leaves_the_warm_up_out() -> None:
    samples = [Sample(float(at), min(at, 20) * 10 * MiB, at * MiB) for at in range(100)]
    assert growth(samples, "daemon") == pytest.approx((0.0, 0.0), abs=1e-6)
    assert growth(samples, "workers") == pytest.approx((3600.0, 74.0))


def test_the_report_is_json_too() -> None:
    assert json.loads(json.dumps(good().as_json()))["asked"] == {"greedy": 3}
