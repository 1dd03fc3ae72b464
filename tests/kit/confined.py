"""Becomes another program under what a systemd unit allows: its system calls, no memory both writable and executable.

``python confined.py UNIT PROGRAM ARGUMENTS…``: reads the unit's ``SystemCallFilter=`` as systemd does (each line adds,
or with ``~`` takes away), lets systemd-analyze say what is in a named set, and asks libseccomp to enforce the rest.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_ALLOW = 0x7FFF0000
_EPERM = 0x00050000 | 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65


def named_set(name: str) -> set[str]:
    """The system calls of a set such as ``@system-service``, sets within it included."""
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in told.stdout.splitlines()[1:]]
    return expanded([line for line in lines if line and not line.startswith("#")], named_set)


def expanded(words: list[str], lookup: Callable[[str], set[str]]) -> set[str]:
    """System calls named by ``words``, which may be sets."""
    return set().union(*(lookup(word) if word.startswith("@") else {word} for word in words))


def allowed_calls(unit: str, lookup: Callable[[str], set[str]] = named_set) -> set[str]:
    """What the text of a unit lets its service call; systemd adds ``@default`` to any allow list."""
    allowed = lookup("@default")
    for line in unit.splitlines():
        name, _, value = line.partition("=")
        if name == "SystemCallFilter":
            calls = expanded(value.removeprefix("~").split(), lookup)
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def confine(unit: str) -> None:
    """Puts this process, and all it becomes or starts, under the unit's rules."""
    calls = allowed_calls(unit)
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_EPERM)))
    for call in calls:
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(rules, ctypes.c_uint32(_ALLOW), number, 0)
    if "MemoryDenyWriteExecute=yes" in unit.splitlines():
        libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # kernels before 6.3 do not know it: then this part goes untested
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or seccomp.seccomp_load(rules) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execv(sys.argv[2], sys.argv[2:])
