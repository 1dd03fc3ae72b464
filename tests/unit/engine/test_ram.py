"""What memory there is, by files in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnode.engine.ram import Ram, ram, resident

MEMINFO = "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:    6000 kB\nCached:          5900 kB\n"
MACHINE = Ram(8000 * 1024, 6000 * 1024)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine without control groups."""
    write(tmp_path, "proc/meminfo", MEMINFO)
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    """One file under the root."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_what_is_cached_counts_as_free(root: Path) -> None:
    assert ram(root) == MACHINE


def test_a_machine_that_says_nothing_has_nothing_known(tmp_path: Path) -> None:
    assert ram(tmp_path) == Ram(0, 0)
    write(tmp_path, "proc/meminfo", "nonsense\n")
    assert ram(tmp_path) == Ram(0, 0)


@pytest.mark.parametrize(
    ("limit", "used", "stat"),
    [
        ("memory.max", "memory.current", "anon 5\ninactive_file 1000\n"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "cache 1\ntotal_inactive_file 1000\n"),
    ],
    ids=["version 2", "version 1"],
)
def test_a_control_groups_limit_counts_and_what_it_cached_is_free(root: Path, limit: str, used: str, stat: str) -> None:
    folder = limit.rpartition("/")[0]
    write(root, f"sys/fs/cgroup/{limit}", "2000000\n")
    write(root, f"sys/fs/cgroup/{used}", "1500000\n")
    assert ram(root) == Ram(2_000_000, 500_000)
    write(root, f"sys/fs/cgroup/{folder}/memory.stat", stat)
    assert ram(root) == Ram(2_000_000, 501_000)


@pytest.mark.parametrize(
    ("path", "limit"), [("memory.max", "max"), ("memory/memory.limit_in_bytes", "9223372036854771712")]
)
def test_no_limit_is_none(root: Path, path: str, limit: str) -> None:
    write(root, f"sys/fs/cgroup/{path}", f"{limit}\n")
    write(root, "sys/fs/cgroup/memory.current", "1\n")
    write(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")
    assert ram(root) == MACHINE


def test_a_limit_above_what_the_machine_has_changes_nothing(root: Path) -> None:
    write(root, "sys/fs/cgroup/memory.max", str(1 << 40))
    write(root, "sys/fs/cgroup/memory.current", "1")
    assert ram(root) == MACHINE


def test_this_process_takes_memory(tmp_path: Path) -> None:
    assert resident(tmp_path) == 0
    if Path("/proc/self/statm").exists():
        assert resident() > 1 << 20
