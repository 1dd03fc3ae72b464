"""How many threads, on machines of several shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.engine import threads
from meshnode.engine.threads import default_threads


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
