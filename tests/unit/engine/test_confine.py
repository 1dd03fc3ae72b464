"""What a confined process has no more, tried in one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kit.worker_process import ENVIRONMENT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers on Windows")


def run(code: str, *fds: int) -> str:
    """What a Python process prints that confines itself first; its output is the last of ``fds``."""
    reader, writer = os.pipe()
    prelude = f"import os, signal, sys\nfrom meshnode.engine.confine import *\nconfine({writer})\n"
    epilogue = f"\nos.write({writer}, str(found).encode())\n"
    arguments = [sys.executable, "-c", prelude + code + epilogue]
    subprocess.run(arguments, env=ENVIRONMENT, pass_fds=[writer, *fds], check=True, timeout=60)
    os.close(writer)
    with os.fdopen(reader) as output:
        return output.read()


def test_other_descriptors_are_closed() -> None:
    secret = os.open("/", os.O_RDONLY)
    try:
        code = f"""
try:
    os.fstat({secret})
    found = "open"
except OSError:
    found = "closed"
"""
        assert run(code, secret) == "closed"
    finally:
        os.close(secret)


def test_standard_input_and_output_lead_nowhere() -> None:
    code = "print('lost', flush=True)\nfound = (os.read(0, 9), os.path.samestat(os.fstat(1), os.stat(os.devnull)))"
    assert run(code) == "(b'', True)"


def test_no_core_file() -> None:
    assert run("found = resource.getrlimit(resource.RLIMIT_CORE)") == "(0, 0)"


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_not_dumpable_and_killed_with_its_parent() -> None:
    code = """
libc = ctypes.CDLL(None)
death = ctypes.c_int()
libc.prctl(2, ctypes.byref(death))
found = (libc.prctl(3), death.value)
"""
    assert run(code) == "(0, 9)"


def test_signals_of_the_terminal_are_ignored() -> None:
    code = """
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
found = "alive"
"""
    assert run(code) == "alive"
