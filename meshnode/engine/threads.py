"""How many threads an engine should use on this machine: what there is, what to try, and when to use fewer.

llama.cpp's OpenMP threads spin while they wait for each other: one too many, and all take several times as long.
So by default one physical core is left to the rest of the machine, and a container's CPU quota counts. What is best is
measured at load (:mod:`meshnode.engine.tuning`); on a box that grew busy since, :class:`BusyRule` tries fewer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

IDLE_LOAD = 0.25
"""Load per core up to which a machine counts as idle, so that all of its cores are tried."""


class Cores(NamedTuple):
    """What a machine has for this process. ``physical`` 0 and ``quota``, ``load`` None where nobody says.

    ``load`` is the number of runnable tasks over the last minute.
    """

    usable: int
    physical: int = 0
    quota: int | None = None
    load: float | None = None

    @property
    def total(self) -> int:
        """Cores that may compute for us at a time."""
        cores = self.physical or self.usable
        return max(1, min(cores, self.quota or cores))


def look(root: Path = Path("/")) -> Cores:
    """This machine's; ``root`` holds ``sys`` and ``proc`` (Linux)."""
    usable = _usable()
    return Cores(len(usable), _physical_cores(root, usable), _quota(root), _load(root))


def default_threads(root: Path = Path("/")) -> int:
    """Physical cores this process may use, minus one, at least 1. ``root`` holds ``sys`` (Linux)."""
    return proposed(look(root))


def proposed(cores: Cores) -> int:
    """What to use where nothing was measured."""
    return max(1, cores.total - 1)


def candidates(cores: Cores) -> tuple[int, ...]:
    """Numbers of threads worth trying, the proposed one first; all cores only on a machine that is idle."""
    best = proposed(cores)
    idle = cores.load is not None and cores.load <= IDLE_LOAD * cores.total
    tried = [best, (best + 1) // 2, *([cores.total] if idle else []), best - 1]
    return tuple(dict.fromkeys(number for number in tried if number >= 1))


def described(cores: Cores) -> str:
    """The machine in a few words: ``8 cores, a quota of 4, load 0.3``."""
    kind = "core" if cores.physical else "CPU"
    parts = [f"{cores.physical or cores.usable} {kind}{'s' if (cores.physical or cores.usable) != 1 else ''}"]
    if cores.quota is not None:
        parts.append(f"a quota of {cores.quota}")
    if cores.load is not None:
        parts.append(f"load {cores.load:.1f}")
    return ", ".join(parts)


# --- a busy box -----------------------------------------------------------------------------------


class BusyPolicy(NamedTuple):
    """When to try fewer threads: steps that took ``slow`` times as long as at load, for ``watch_s`` seconds.

    What was tried for ``trial_s`` is kept if it is better by ``gain``; else it is not tried again for ``rest_s``,
    twice as long after each time in vain. After ``return_s`` with fewer, more are tried again.
    """

    slow: float = 3.0
    watch_s: float = 5.0
    trial_s: float = 2.0
    gain: float = 1.15
    rest_s: float = 60.0
    longest_rest_s: float = 3600.0
    return_s: float = 60.0
    least_steps: int = 8


DEFAULT_POLICY = BusyPolicy()


class BusyRule:
    """Tries fewer threads while steps take far longer than they did at load, and more again later.

    Fed with how many times as long as at load each step took, and the time (seconds of any one clock); answers with
    the number of threads to use from now on, or None to stay. It never goes above ``best``, what measuring chose.
    """

    def __init__(self, best: int, *, policy: BusyPolicy = DEFAULT_POLICY) -> None:
        self._best = best
        self._policy = policy
        self._threads = best
        self._before: tuple[int, float] | None = None
        """While something is tried: the number to go back to, and how slow it was."""
        self._seen: list[tuple[float, float]] = []
        self._rest_until = 0.0
        self._rest_s = policy.rest_s
        self._since = 0.0

    @property
    def threads(self) -> int:
        """The number in use."""
        return self._threads

    def observe(self, slowness: float, now: float) -> int | None:
        """One step took ``slowness`` times what it should."""
        policy = self._policy
        horizon = policy.trial_s if self._before is not None else policy.watch_s
        self._seen = [seen for seen in self._seen if seen[0] > now - 2 * horizon]
        self._seen.append((now, slowness))
        if now - self._seen[0][0] < horizon or len(self._seen) < policy.least_steps:
            return None
        typical = median(value for _, value in self._seen)
        if self._before is not None:
            return self._judge(typical, now)
        if now < self._rest_until:
            return None
        if typical >= policy.slow and self._threads > 1:
            return self._try(_fewer(self._threads), typical, now)
        if self._threads < self._best and now - self._since >= policy.return_s:
            return self._try(min(self._best, 2 * self._threads), typical, now)
        return None

    def _try(self, threads: int, typical: float, now: float) -> int:
        self._before = (self._threads, typical)
        return self._use(threads, now)

    def _judge(self, typical: float, now: float) -> int | None:
        """Keep what was tried, or go back."""
        assert self._before is not None
        threads, slowness = self._before
        self._before = None
        if typical * self._policy.gain <= slowness:
            self._rest_s = self._policy.rest_s
            self._seen.clear()
            return None
        if 1 < self._threads < threads:  # where threads wait for a core, only few enough are better at all
            self._before = (threads, slowness)
            return self._use(_fewer(self._threads), now)
        self._rest_until = now + self._rest_s
        self._rest_s = min(2 * self._rest_s, self._policy.longest_rest_s)
        return self._use(threads, now)

    def _use(self, threads: int, now: float) -> int:
        self._threads, self._since = threads, now
        self._seen.clear()
        return threads


def _fewer(threads: int) -> int:
    return (threads + 1) // 2 if threads > 2 else 1


class Expected(NamedTuple):
    """How long steps took at load: ``decode_s`` for one row alone, ``row_s`` for each further one."""

    decode_s: float
    row_s: float

    def slowness(self, rows: int, seconds: float) -> float:
        """How many times as long a step of so many rows took; 1.0 where nothing was measured."""
        due = self.decode_s + max(rows - 1, 0) * self.row_s
        return seconds / due if due > 0 else 1.0


# --- what there is --------------------------------------------------------------------------------


def _usable() -> frozenset[int]:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_cores(root: Path, usable: Sequence[int] | frozenset[int]) -> int:
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


def _load(root: Path) -> float | None:
    """The one-minute load average."""
    text = (_read(root / "proc/loadavg") or "").partition(" ")[0]
    try:
        return float(text)
    except ValueError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
