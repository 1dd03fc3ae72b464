"""A worker's filter of system calls: no socket, no program, no other process, no change of names in the file system.

seccomp-BPF (Linux's ``Documentation/userspace-api/seccomp_filter.rst``) runs a small program on the number and the
arguments of each system call. This one refuses what no model needs, with EPERM and not by killing, so that a library
that tries degrades; all else is allowed, because what a GPU's driver calls is in no list. A thread may be started; a
process may not. ``clone3`` hides its flags behind a pointer, which a filter cannot follow: it does not exist here, and
the C library then uses ``clone``. Signals and limits may be sent and set to this very process alone.

What is open stays open: the pipe's reads and writes go on. A call of another architecture's table (i386, x32) is
refused whole.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final, NamedTuple

from meshnode.engine.kernel import Call, system_call
from meshnode.engine.syscalls import MACHINES, Machine

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD|W|ABS, BPF_JMP|JEQ|K, JGE, JSET, BPF_RET|K (``linux/bpf_common.h``)."""
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in ``struct seccomp_data``; of an argument the lower 32 bits."""
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_SET_MODE_FILTER: Final = 1
_ALL_THREADS, _KEEP_SPECULATION = 1, 4
"""TSYNC; and SPEC_ALLOW, without which kernels before 5.16 slow the whole process down (Spectre 4)."""


class Instruction(NamedTuple):
    """``struct sock_filter``: jumps skip ``yes`` or ``no`` instructions."""

    code: int
    yes: int
    no: int
    k: int

    def encode(self) -> bytes:
        """Eight bytes."""
        return struct.pack("<HBBI", *self)


def program(machine: Machine, pid: int) -> list[Instruction]:
    """The filter for a process ``pid`` on ``machine``. Pure."""
    refuse, allow = _answer(_ERRNO | errno.EPERM), _answer(_ALLOW)
    lines = [_load(_ARCH), Instruction(_EQUAL, 1, 0, machine.audit), refuse, _load(_NUMBER)]
    if machine.foreign:
        lines += [Instruction(_AT_LEAST, 0, 1, machine.foreign), refuse]
    for number in sorted(set(machine.refused.values())):
        lines += [Instruction(_EQUAL, 0, 1, number), refuse]
    lines += [Instruction(_EQUAL, 0, 1, machine.judged["clone3"]), _answer(_ERRNO | errno.ENOSYS)]
    thread = [Instruction(_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse]
    itself = [Instruction(_EQUAL, 0, 1, pid), allow, refuse]
    itself_or_zero = [Instruction(_EQUAL, 1, 0, 0), *itself[:1], allow, refuse]
    for name, verdict in (("clone", thread), ("kill", itself), ("tgkill", itself), ("prlimit64", itself_or_zero)):
        judged = [_load(_FIRST_ARGUMENT), *verdict]
        lines += [Instruction(_EQUAL, 0, len(judged), machine.judged[name]), *judged]
    return [*lines, allow]


def forbid(call: Call = system_call, machine: str = platform.machine()) -> None:
    """Put this process, with all its threads, under the filter, for good. Needs PR_SET_NO_NEW_PRIVS.

    Raises OSError where the kernel refuses, or where there is no table of ``machine``'s system calls.
    """
    known = MACHINES.get(machine)
    if known is None:
        raise OSError(errno.ENOSYS, f"no table of {machine or 'this machine'}'s system calls")
    code = b"".join(line.encode() for line in program(known, os.getpid()))
    held = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    for flags in (_ALL_THREADS | _KEEP_SPECULATION, _ALL_THREADS):
        try:
            stray = call(known.seccomp, _SET_MODE_FILTER, flags, ctypes.addressof(fprog))
        except OSError as error:
            if error.errno != errno.EINVAL or flags == _ALL_THREADS:
                raise
        else:
            if stray:  # the number of a thread that has a filter of its own
                raise OSError(errno.EBUSY, f"thread {stray} has another filter")
            return


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _answer(action: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, action)
