"""How many threads an engine should use on this machine.

llama.cpp's OpenMP threads spin while they wait for each other: one too many, and all take several times as long.
So one physical core is left to the rest of the machine, and a container's CPU quota counts.
"""

from __future__ import annotations

import os
from pathlib import Path


def default_threads(root: Path = Path("/")) -> int:
    """Physical cores this process may use, minus one, at least 1. ``root`` holds ``sys`` (Linux)."""
    usable = _usable()
    cores = _physical_cores(root, usable) or len(usable)
    quota = _quota(root)
    return max(1, min(cores, quota or cores) - 1)


def _usable() -> frozenset[int]:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(root: Path, usable: frozenset[int]) -> int:
    """Different (package, core) pairs among the usable CPUs; 0 where the kernel does not say."""
    cores = set()
    for cpu in usable:
        topology = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
        if core is None:
            return 0
        cores.add((package, core))
    return len(cores)


def _quota(root: Path) -> int | None:
    """Whole CPUs of the control group's quota, at least 1; ``None`` without one."""
    text = _read(root / "sys/fs/cgroup/cpu.max")
    quota, _, period = (text or "").partition(" ")
    if not (quota.isdigit() and period.isdigit() and int(period) > 0):
        return None
    return max(1, int(quota) // int(period))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
