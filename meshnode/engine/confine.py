"""What an engine worker gives up before it reads a model's file: the seam where its sandbox grows.

A worker holds prompts in memory and runs a large C++ library on files from strangers. So far it: dies with its parent,
leaves no core dump, cannot be attached to by other processes of its user, holds no file descriptor but its pipe and
its standard streams, and reads and writes nothing through those but last words. Namespaces, Landlock and seccomp
belong here too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
"""From ``linux/prctl.h``."""


def confine(fd: int) -> None:
    """Give everything up that a worker with its pipe at ``fd`` does not need. Exits if the parent has gone already."""
    parent = os.getppid()
    close_others(fd)
    forbid_core_dumps()
    ignore_signals()
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:
            os._exit(0)


def forbid_core_dumps() -> None:
    """No core file; on Linux no ptrace and no reading of this process's memory by its user's other processes either."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


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


def _prctl(option: int, value: int) -> None:
    """Raises OSError where the kernel refuses, which for these two options it does not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
