"""Main memory of this machine, and what of it can be had; a control group's limit counts. Linux; elsewhere unknown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_UNLIMITED = 1 << 60
"""Version 1 of control groups writes a number this large where there is no limit."""
_GROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
    ),
)


class Ram(NamedTuple):
    """Bytes there are, and bytes that can be had without swapping; 0 where the system does not say."""

    total: int
    free: int


def ram(root: Path = Path("/")) -> Ram:
    """Of this machine, or of the control group this process is in; ``root`` holds ``proc`` and ``sys``.

    The page cache counts as free, as the kernel gives it up: it is mostly models that were read.
    """
    meminfo = _text(root / "proc/meminfo")
    total, free = _kilobytes(meminfo, "MemTotal"), _kilobytes(meminfo, "MemAvailable")
    for names in _GROUPS:
        limit_path, used_path, stat_path = (root / name for name in names)
        limit, used = _text(limit_path).strip(), _text(used_path).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED:
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", _text(stat_path), re.MULTILINE)
            left = max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))
            return Ram(min(total or int(limit), int(limit)), min(free or left, left))
    return Ram(total, free)


def resident(root: Path = Path("/")) -> int:
    """Bytes of main memory that this process takes now; 0 where the system does not say."""
    pages = _text(root / "proc/self/statm").split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages and pages[0].isdigit() else 0


def _kilobytes(meminfo: str, name: str) -> int:
    """A line of ``/proc/meminfo``, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
