"""What the kernel is asked for, version by version, with a fake kernel.

That the kernel holds to it is tried in :mod:`tests.unit.engine.test_confine`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

import pytest

from meshnode.engine.landlock import IOCTL_DEV, READ_DIR, READ_FILE, WRITE_FILE, attributes, restrict, version

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="opens paths as Linux does")
READ = READ_FILE | READ_DIR


class Kernel:
    """A kernel with version ``abi`` of the interface; keeps the rules it was given, by the path they are for."""

    def __init__(self, abi: int, refuses: int = 0) -> None:
        self.abi = abi
        self.refuses = refuses
        self.ruleset = b""
        self.rules: dict[str, int] = {}
        self.restricted = False
        self.fd = -1

    def __call__(self, number: int, *arguments: int) -> int:
        """A system call."""
        if number == 444:
            return self._create(*arguments)
        if number == 445:
            rights, fd = struct.unpack("=Qi", ctypes.string_at(arguments[2], 12))
            assert arguments[:2] == (self.fd, 1)
            self.rules[os.readlink(f"/proc/self/fd/{fd}")] = rights
            return 0
        assert (number, arguments) == (446, (self.fd, 0))
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.restricted = True
        return 0

    def _create(self, address: int, size: int, flags: int) -> int:
        if flags:
            return self.abi
        self.ruleset = ctypes.string_at(address, size)
        self.fd = os.open(os.devnull, os.O_RDONLY)
        return self.fd


@pytest.mark.parametrize(
    ("abi", "files", "size"),
    [(1, 13, 8), (2, 14, 8), (3, 15, 8), (4, 15, 16), (5, 16, 16), (6, 16, 24), (7, 16, 24), (40, 16, 24)],
)
def test_all_that_the_kernel_knows_is_refused(abi: int, files: int, size: int) -> None:
    asked = attributes(abi)
    words = struct.unpack(f"<{size // 8}Q", asked)
    assert words[0] == (1 << files) - 1
    assert set(words[1:]) <= {0b11}


def test_folders_are_read_devices_used_and_nothing_else(tmp_path: Path) -> None:
    kernel, model = Kernel(7), tmp_path / "model.gguf"
    model.write_bytes(b"")
    (tmp_path / "lib").mkdir()
    (tmp_path / "link").symlink_to(model)
    paths = [str(tmp_path / name) for name in ("lib", "link", "none")]
    assert restrict(paths, ["/dev/null"], kernel) == 7
    assert kernel.restricted
    assert kernel.rules == {
        str(tmp_path / "lib"): READ,
        str(model): READ_FILE,
        "/dev/null": READ_FILE | WRITE_FILE | IOCTL_DEV,
    }


def test_an_older_kernel_is_not_asked_for_what_it_does_not_know() -> None:
    kernel = Kernel(1)
    assert restrict([], ["/dev/null"], kernel) == 1
    assert kernel.rules == {"/dev/null": READ_FILE | WRITE_FILE}


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    restrict(["/usr"], ["/dev/null"], Kernel(5))
    with pytest.raises(PermissionError):
        restrict(["/usr"], [], Kernel(5, refuses=errno.EPERM))
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_without_it_is_said(code: int) -> None:
    def refuse(*_: int) -> int:
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=os.strerror(code)):
        version(refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        restrict(["/usr"], [], refuse)
