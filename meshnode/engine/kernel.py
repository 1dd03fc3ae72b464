"""The door to Linux's system calls that Python's library has no function for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

Call = Callable[..., int]
"""A system call by number: ``call(number, *arguments)``, whole numbers and addresses. Raises OSError."""


def system_call(number: int, *arguments: int) -> int:
    """``syscall(2)``: what the call returned. Raises OSError with the kernel's reason."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """``prctl(2)`` with one argument. Raises OSError with the kernel's reason."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
