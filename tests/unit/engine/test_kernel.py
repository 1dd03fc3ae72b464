"""System calls by number, and the kernel's reasons as errors."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from meshnode.engine.kernel import prctl, system_call

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's system calls")
GETPID = {"x86_64": 39, "aarch64": 172}


@pytest.mark.skipif(os.uname().machine not in GETPID, reason="another architecture's numbers")
def test_a_call_gives_what_the_kernel_says() -> None:
    assert system_call(GETPID[os.uname().machine]) == os.getpid()


def test_a_refused_call_is_an_error_with_the_kernels_reason() -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)) as caught:
        system_call(100_000)
    assert caught.value.errno == errno.ENOSYS


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        prctl(100_000, 0)
