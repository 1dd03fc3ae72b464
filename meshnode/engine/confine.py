"""What an engine worker gives up before it reads a model's file.

A worker holds prompts in memory and runs a large C++ library on files from strangers. In any case it dies with its
parent, leaves no core dump, cannot be attached to by other processes of its user, holds no file descriptor but its pipe
and its standard streams, reads and writes nothing through those but last words, and is the first to go when memory runs
out. On top of that comes the sandbox, in two stages: before the first message is read, no new privileges, resource
limits and a filter of system calls (:mod:`meshnode.engine.seccomp`); once that message has named the model, and before
its file or any library that parses it is opened, :mod:`meshnode.engine.landlock`.

A layer that the kernel does not have, or that it refuses, is told to the parent and missed; it is no error. Not used:

- A network namespace of its own. It would take nothing away that the filter leaves, and it takes a user namespace, in
  which the process has every capability for a while, and which many systems refuse.
- RLIMIT_AS: a GPU's runtime reserves hundreds of gigabytes of address space, and a mapped model counts too. What is
  bounded is data (RLIMIT_DATA), by the memory there is, so that an absurd allocation fails instead of being promised.
- RLIMIT_NPROC counts the threads of all processes of the user, and would fail a load because of others.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshnode.engine import landlock, seccomp
from meshnode.engine.kernel import Call, prctl, system_call
from meshnode.engine.reach import DEVICES, gpu_devices, readable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
"""From ``linux/prctl.h``."""
_OPEN_FILES = 4096
_FILE_SIZE = 16 << 20
"""Not 0: where memory may not be both writable and executable (a unit's MemoryDenyWriteExecute), libffi puts the few
kilobytes of a callback into a file in memory."""
_OOM_SCORE = 500
"""Half of what memory can add to a process's badness: the daemon and the owner's programs outlive a worker."""
_MEMINFO = Path("/proc/meminfo")


class Sandbox:
    """What a worker is under: ``layers`` by name, and what is ``missing`` with the kernel's reason, in order."""

    def __init__(self, *, on: bool, call: Call = system_call) -> None:
        self.layers: list[str] = []
        self.missing: list[str] = []
        self._on = on
        self._call = call

    def begin(self) -> None:
        """The first stage: before anything is read. Nothing on systems other than Linux but limits."""
        if not self._on:
            return
        linux = sys.platform == "linux"
        if linux:
            self._put("no-new-privs", lambda: prctl(_PR_SET_NO_NEW_PRIVS, 1))
        self._put("rlimits", lambda: limit_resources(gpu_devices()))
        if linux:
            self._put("seccomp", lambda: seccomp.forbid(self._call))

    def close_in(self, model: str, environ: Mapping[str, str] = os.environ) -> None:
        """The second stage: from now on the model's file, code and devices are all there is to open."""
        if not self._on or sys.platform != "linux":
            return
        threads = len(os.listdir("/proc/self/task"))
        paths, devices = readable(model, environ), [*DEVICES, *gpu_devices()]
        abi: list[int] = []
        self._put("landlock", lambda: abi.append(landlock.restrict(paths, devices, self._call)))
        if abi:
            self.layers[-1] = f"landlock-{abi[0]}"
        if abi and threads > 1:
            self.missing.append(f"landlock: {threads - 1} threads ran before it and are not under it")

    def _put(self, name: str, put_up: Callable[[], None]) -> None:
        try:
            put_up()
        except (OSError, ValueError) as error:
            self.missing.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        else:
            self.layers.append(name)


def confine(fd: int, *, sandbox: bool = True) -> Sandbox:
    """Give everything up that a worker with its pipe at ``fd`` does not need. Exits if the parent has gone already.

    Gives the sandbox after its first stage; with ``sandbox`` false it has no layer but ``pdeathsig``.
    """
    parent = os.getppid()
    close_others(fd)
    volunteer()
    forbid_core_dumps()
    ignore_signals()
    under = Sandbox(on=sandbox)
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:
            os._exit(0)
        under.layers.append("pdeathsig")
    under.begin()
    return under


def limit_resources(gpus: Sequence[str], meminfo: Path = _MEMINFO) -> None:
    """Few open files; without a GPU no large file, and no more data than the machine has memory and swap.

    With one, its driver's memory may be counted as a file's or as data. Raises OSError or ValueError where refused.
    """
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if gpus:
        return
    _lower(resource.RLIMIT_FSIZE, _FILE_SIZE)
    if memory := _all_memory(meminfo):
        _lower(resource.RLIMIT_DATA, memory)


def _lower(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (lowest, lowest))


def _all_memory(meminfo: Path) -> int:
    """Bytes of memory and swap; 0 where the system does not say."""
    try:
        rows = [line.split() for line in meminfo.read_text(encoding="ascii").splitlines()]
    except OSError:
        return 0
    return 1024 * sum(int(row[1]) for row in rows if row[0] in ("MemTotal:", "SwapTotal:"))


def volunteer() -> None:
    """Out of memory, the kernel ends a worker first (Linux; elsewhere nothing)."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def forbid_core_dumps() -> None:
    """No core file; on Linux no ptrace and no reading of this process's memory by its user's other processes either."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl(_PR_SET_DUMPABLE, 0)


def close_others(fd: int) -> None:
    """Close every file descriptor but the standard ones and ``fd``; point standard input and output at nothing."""
    for other in _open_fds():
        if other > 2 and other != fd:
            try:
                os.close(other)
            except OSError:
                continue  # the descriptor the list itself was read from
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def ignore_signals() -> None:
    """A Ctrl-C or a SIGTERM to the whole group is the parent's to act on: it drains, then says stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _open_fds() -> list[int]:
    where = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return [int(name) for name in os.listdir(where)]
