"""What of the file system a worker may reach, held by the kernel: Landlock (Linux 5.13 and later).

A process hands the kernel a set of rules and cannot take it back (``Documentation/userspace-api/landlock.rst``). Here:
read beneath these paths, use these devices, nothing else; no file written, made, renamed or removed, none executed.
Later versions of the interface add TCP (4), ``ioctl`` on devices (5), abstract sockets and signals (6): what the kernel
has is used. Landlock also keeps a process from tracing, and so from reading the memory and the environment of, any
process that is not under the same rules: the worker's parent for one.

What was opened before stays open. ``stat`` and ``chdir`` are not Landlock's to refuse.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from typing import Final

from meshnode.engine.kernel import Call, system_call

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_TELL_VERSION: Final = 1
_PATH_BENEATH: Final = 1

WRITE_FILE, READ_FILE, READ_DIR, IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 15
"""LANDLOCK_ACCESS_FS_*, of ``linux/landlock.h``."""
_RIGHTS: Final = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
"""Rights on files that each version brought; the first has thirteen, then came REFER, TRUNCATE, IOCTL_DEV."""
_TCP: Final = 0b11
_SCOPES: Final = 0b11


def version(call: Call = system_call) -> int:
    """The interface's version in this kernel. Raises OSError where there is none (ENOSYS) or it is off (EOPNOTSUPP)."""
    return call(_CREATE, 0, 0, _TELL_VERSION)


def attributes(abi: int) -> bytes:
    """``struct landlock_ruleset_attr``, as long as version ``abi`` has it: what no rule allows is refused. Pure."""
    files = sum(rights for since, rights in _RIGHTS.items() if since <= abi)
    whole = struct.pack("<QQQ", files, _TCP, _SCOPES)
    return whole[: 24 if abi >= 6 else 16 if abi >= 4 else 8]


def restrict(readable: Iterable[str], devices: Iterable[str], call: Call = system_call) -> int:
    """Let this thread, and those it starts, read beneath ``readable`` and use ``devices``: the version used.

    A path that does not exist, or may not be opened, is passed over: it cannot be read either. Needs
    PR_SET_NO_NEW_PRIVS. Raises OSError where the kernel has no Landlock or refuses.
    """
    abi = version(call)
    known = attributes(abi)
    held = ctypes.create_string_buffer(known, len(known))
    rules = call(_CREATE, ctypes.addressof(held), len(known), 0)
    try:
        for path in readable:
            _allow(rules, path, READ_FILE | READ_DIR, call)
        for path in devices:
            _allow(rules, path, READ_FILE | READ_DIR | WRITE_FILE | (IOCTL_DEV if abi >= 5 else 0), call)
        call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return abi


def _allow(rules: int, path: str, rights: int, call: Call) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined,unused-ignore]  # Linux has it
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= ~READ_DIR  # which only a folder can have
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
        call(_ADD_RULE, rules, _PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(fd)
