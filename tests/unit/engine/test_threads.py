"""How many threads, on machines of several shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine import threads
from meshnode.engine.threads import BusyRule, Cores, Expected, candidates, default_threads, described, look, proposed


def machine(root: Path, cores: list[tuple[int, int]], cpu_max: str | None = None) -> Path:
    """A ``/sys`` in which CPU number n is the n-th (package, core)."""
    for cpu, (package, core) in enumerate(cores):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "core_id").write_text(f"{core}\n")
    if cpu_max is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/cpu.max").write_text(cpu_max)
    return root


def usable(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """This process may run on CPUs 0 to count-1."""
    monkeypatch.setattr(threads, "_usable", lambda: frozenset(range(count)))


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([(0, 0)], 1),
        ([(0, 0), (0, 1)], 1),
        ([(0, n) for n in range(8)], 7),
        ([(0, n // 2) for n in range(8)], 3),
        ([(package, n) for package in (0, 1) for n in range(4)], 7),
    ],
    ids=["one core", "two cores", "eight cores", "four cores with two threads each", "two packages"],
)
def test_physical_cores_minus_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: list[tuple[int, int]], expected: int
) -> None:
    usable(monkeypatch, len(cores))
    assert default_threads(machine(tmp_path, cores)) == expected


def test_only_what_this_process_may_use_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch, 4)
    assert default_threads(machine(tmp_path, [(0, n) for n in range(16)])) == 3


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000", 7), ("400000 100000", 3), ("50000 100000", 1), ("nonsense", 7), ("1 0", 7)],
)
def test_a_containers_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, expected: int
) -> None:
    usable(monkeypatch, 8)
    assert default_threads(machine(tmp_path, [(0, n) for n in range(8)], cpu_max)) == expected


def test_without_a_topology_cpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch, 6)
    assert default_threads(tmp_path) == 5


def test_this_machine_gives_at_least_one() -> None:
    assert default_threads() >= 1


# --- what to try --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "tried"),
    [
        (Cores(1, 1, None, 0.0), (1,)),
        (Cores(2, 2, None, 0.1), (1, 2)),
        (Cores(2, 2, None, 1.5), (1,)),
        (Cores(8, 8, None, 0.5), (7, 4, 8, 6)),
        (Cores(8, 8, None, 6.0), (7, 4, 6)),
        (Cores(16, 8, 4, None), (3, 2)),
    ],
    ids=["one core", "two idle", "two busy", "eight idle", "eight busy", "a quota of four, load unknown"],
)
def test_the_proposed_number_comes_first_and_all_cores_only_where_nobody_else_needs_one(
    cores: Cores, tried: tuple[int, ...]
) -> None:
    assert candidates(cores) == tried
    assert tried[0] == proposed(cores)


def test_a_machine_is_described_by_what_is_known_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch, 8)
    root = machine(tmp_path, [(0, n) for n in range(8)], "400000 100000")
    (root / "proc").mkdir()
    (root / "proc/loadavg").write_text("0.52 0.4 0.3 1/200 4242\n")
    assert described(look(root)) == "8 cores, a quota of 4, load 0.5"
    assert described(Cores(1)) == "1 CPU"
    (root / "proc/loadavg").write_text("nonsense")
    assert look(root).load is None


# --- a busy box ---------------------------------------------------------------------------------


class Box:
    """A machine on which steps take ``slowness(threads)`` times what they did; ten steps a second."""

    def __init__(self, best: int, slowness: Callable[[int], float]) -> None:
        self.rule = BusyRule(best)
        self.slowness = slowness
        self.now = 0.0
        self.changes: list[int] = []

    def run(self, seconds: float) -> None:
        """Let it compute for so long."""
        for _ in range(int(seconds * 10)):
            self.now += 0.1
            changed = self.rule.observe(self.slowness(self.rule.threads), self.now)
            if changed is not None:
                assert changed == self.rule.threads
                self.changes.append(changed)


def test_a_quiet_box_changes_nothing() -> None:
    box = Box(7, lambda threads: 1.2)
    box.run(600)
    assert box.changes == []


def test_a_busy_box_gets_fewer_threads_where_that_helps() -> None:
    box = Box(7, lambda threads: 20.0 if threads > 2 else 1.5)
    box.run(30)
    assert box.rule.threads == 2
    assert box.changes == [4, 2]


def test_a_moment_of_load_changes_nothing() -> None:
    box = Box(7, lambda threads: 20.0)
    box.run(3)
    assert box.changes == []


def test_where_fewer_do_not_help_it_goes_back_and_tries_ever_more_rarely() -> None:
    box = Box(4, lambda threads: 10.0)
    box.run(3600)
    assert box.rule.threads == 4
    assert 2 <= len(box.changes) <= 21, "each trial is three changes, and the waits between them double"


def test_more_are_tried_again_when_the_box_is_quiet() -> None:
    box = Box(4, lambda threads: 12.0 if threads > 2 else 1.5)
    box.run(30)
    assert box.rule.threads < 4
    box.slowness = lambda threads: 4.0 / threads
    box.run(400)
    assert box.rule.threads == 4


@given(st.lists(st.floats(0.1, 1000), max_size=400), st.integers(1, 64))
def test_the_number_stays_within_what_was_measured_best(slowness: list[float], best: int) -> None:
    rule = BusyRule(best)
    for step, value in enumerate(slowness):
        rule.observe(value, step * 0.7)
        assert 1 <= rule.threads <= best


def test_a_step_is_slow_by_its_rows_not_by_its_length() -> None:
    expected = Expected(decode_s=0.01, row_s=0.001)
    assert expected.slowness(1, 0.01) == pytest.approx(1.0)
    assert expected.slowness(512, 0.521) == pytest.approx(1.0)
    assert expected.slowness(1, 0.1) == pytest.approx(10.0)
    assert Expected(0.0, 0.0).slowness(5, 3.0) == 1.0
