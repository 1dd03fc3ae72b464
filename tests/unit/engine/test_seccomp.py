"""The filter's verdict on every call, by an interpreter of its program; and how it is installed, with a fake kernel.

That the kernel does what the program says is tried in :mod:`tests.unit.engine.test_confine`.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.engine.seccomp import Instruction, forbid, program
from meshnode.engine.syscalls import MACHINES, Machine

PID = 4711
ALLOWED = 0x7FFF0000
MISSING = 0x00050000 | errno.ENOSYS
REFUSED = 0x00050000 | errno.EPERM
THREAD, NEW_USER = 0x00010000, 0x10000000
machines = st.sampled_from(list(MACHINES.values()))


def verdict(machine: Machine, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the program for ``machine`` returns: the semantics of classic BPF, as far as the filter uses it."""
    six = (*arguments, *(0,) * 6)[:6]
    data = struct.pack("<IIQ6Q", number, machine.audit if arch is None else arch, 0, *six)
    lines, at, accumulator = program(machine, PID), 0, 0
    while lines[at].code != 0x06:
        code, yes, no, k = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += yes if holds else no
    return lines[at].k


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_call_on_the_list_is_refused(machine: Machine) -> None:
    assert {name: verdict(machine, number) for name, number in machine.refused.items()} == dict.fromkeys(
        machine.refused, REFUSED
    )


@given(machines, st.integers(0, 1000), st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_every_other_call_is_allowed(machine: Machine, number: int, arguments: list[int]) -> None:
    if number not in {*machine.refused.values(), *machine.judged.values()}:
        assert verdict(machine, number, *arguments) == ALLOWED


@given(machines, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_another_architectures_calls_are_refused(machine: Machine, arch: int, number: int) -> None:
    if arch != machine.audit:
        assert verdict(machine, number, arch=arch) == REFUSED


@given(st.integers(1 << 30, 2**32 - 1))
def test_the_second_table_of_x86_is_refused(number: int) -> None:
    assert verdict(MACHINES["x86_64"], number) == REFUSED


@given(machines, st.integers(0, 2**64 - 1))
def test_a_thread_may_be_started_and_a_process_not(machine: Machine, flags: int) -> None:
    clone = machine.judged["clone"]
    assert verdict(machine, clone, flags | THREAD) == ALLOWED
    assert verdict(machine, clone, flags & ~THREAD) == REFUSED
    assert verdict(machine, clone, NEW_USER | 17) == REFUSED
    assert verdict(machine, machine.judged["clone3"], flags) == MISSING, "the C library then takes clone"


@given(machines, st.sampled_from(["kill", "tgkill", "prlimit64"]), st.integers(-(2**31), 2**31 - 1))
def test_signals_and_limits_are_for_itself_alone(machine: Machine, name: str, pid: int) -> None:
    ours = pid == PID or (pid == 0 and name == "prlimit64")
    assert verdict(machine, machine.judged[name], pid % 2**64) == (ALLOWED if ours else REFUSED)
    assert verdict(machine, machine.judged[name], PID) == ALLOWED


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_program_is_one_the_kernel_takes(machine: Machine) -> None:
    lines = program(machine, PID)
    assert len(lines) <= 4096
    assert lines[-1].code == 0x06, "the last instruction returns"
    for at, line in enumerate(lines):
        assert at + 1 + max(line.yes, line.no) < len(lines) or line.code == 0x06
    assert Instruction(0x15, 1, 2, 3).encode() == b"\x15\x00\x01\x02\x03\x00\x00\x00"


class Kernel:
    """Answers calls with ``answers`` in turn (an int, or an errno as OSError) and keeps what it was asked."""

    def __init__(self, answers: Sequence[int | OSError]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, ...]] = []
        self.installed = b""

    def __call__(self, number: int, *arguments: int) -> int:
        """A system call."""
        self.asked.append((number, *arguments[:2]))
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        count, address = struct.unpack("@HP", ctypes.string_at(arguments[2], 16))
        self.installed = ctypes.string_at(address, count * 8)
        return answer


def test_it_is_installed_for_all_threads_without_slowing_them() -> None:
    kernel = Kernel([0])
    forbid(kernel, "x86_64")
    assert kernel.asked == [(317, 1, 5)]
    assert len(kernel.installed) % 8 == 0
    assert kernel.installed.endswith(Instruction(0x06, 0, 0, ALLOWED).encode())


def test_a_kernel_before_4_17_is_asked_without_the_newer_flag() -> None:
    kernel = Kernel([OSError(errno.EINVAL, "no such flag"), 0])
    forbid(kernel, "aarch64")
    assert kernel.asked == [(277, 1, 5), (277, 1, 1)]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EACCES, errno.EPERM])
def test_what_the_kernel_refuses_is_said(code: int) -> None:
    with pytest.raises(OSError, match="no") as caught:
        forbid(Kernel([OSError(code, "no")]), "x86_64")
    assert caught.value.errno == code


def test_a_kernel_that_refuses_both_forms_is_said() -> None:
    with pytest.raises(OSError, match="two"):
        forbid(Kernel([OSError(errno.EINVAL, "one"), OSError(errno.EINVAL, "two")]), "x86_64")


def test_a_thread_that_cannot_be_put_under_it_is_said() -> None:
    with pytest.raises(OSError, match="thread 99 has another filter"):
        forbid(Kernel([99]), "x86_64")


@pytest.mark.parametrize("machine", ["riscv64", ""])
def test_an_architecture_without_a_table_is_said(machine: str) -> None:
    with pytest.raises(OSError, match="no table of"):
        forbid(Kernel([]), machine)
