"""The numbers are those that libseccomp has, for both architectures."""

from __future__ import annotations

import ctypes
import ctypes.util

import pytest

from meshnode.engine.syscalls import MACHINES, Machine

TOO_NEW = {"setxattrat", "removexattrat", "open_tree_attr", "file_setattr"}
"""Linux 6.13 and later: not every libseccomp knows them. Their numbers are the same on all architectures."""

_library = ctypes.util.find_library("seccomp")


def known_numbers(machine: Machine) -> dict[str, int]:
    """What libseccomp says of the same names; those it does not know, or the architecture does not have, left out."""
    resolve = ctypes.CDLL(_library).seccomp_syscall_resolve_name_arch
    names = [*machine.refused, *machine.judged]
    numbers = {name: resolve(ctypes.c_uint32(machine.audit), name.encode()) for name in names}
    return {name: number for name, number in numbers.items() if number >= 0}


@pytest.mark.skipif(_library is None, reason="needs libseccomp (Debian: apt-get install libseccomp2)")
@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_libseccomps(machine: str) -> None:
    table = MACHINES[machine]
    ours = {**table.refused, **table.judged}
    theirs = known_numbers(table)
    assert theirs.items() <= ours.items()
    assert ours.keys() - theirs.keys() <= TOO_NEW


def test_both_architectures_have_what_they_share() -> None:
    x86, arm = MACHINES["x86_64"], MACHINES["aarch64"]
    assert arm.refused.keys() < x86.refused.keys()
    assert x86.refused.keys() - arm.refused.keys() >= {"fork", "vfork", "iopl"}, "which arm64 never had"
    assert {x86.refused[name] == arm.refused[name] for name in TOO_NEW} == {True}
    assert arm.judged.keys() == x86.judged.keys()


@pytest.mark.parametrize("machine", MACHINES)
def test_no_number_stands_for_two_calls(machine: str) -> None:
    table = MACHINES[machine]
    numbers = [*table.refused.values(), *table.judged.values(), table.seccomp]
    assert len(numbers) == len(set(numbers))
