"""Asking the library what it can do."""

from __future__ import annotations

import os
import sys

import pytest
import trio

from meshnode.engine.probe import probe
from meshnode.errors import OwnerError


def script(source: str) -> tuple[str, ...]:
    """A command in place of the worker's."""
    return (sys.executable, "-c", source)


async def failure(source: str, timeout_s: float = 20.0) -> str:
    """Why a probe failed."""
    with trio.fail_after(30), pytest.raises(OwnerError) as caught:
        await probe(os.environ, command=script(source), timeout_s=timeout_s)
    assert "./scripts/run --rebuild" in caught.value.hint
    return caught.value.message


async def test_the_installed_library_names_its_backends_and_the_processor() -> None:
    with trio.fail_after(60):
        found = await probe(os.environ)
    assert "CPU" in {name.upper() for name in found.backends}
    assert any(device.kind == "cpu" for device in found.devices)


async def test_only_the_last_line_counts() -> None:
    line = '{"backends":["CPU"],"devices":[],"gpu_offload":false,"system_info":"AVX2 = 1"}'
    with trio.fail_after(20):
        found = await probe(os.environ, command=script(f"print('a banner'); print({line!r})"))
    assert (found.backends, found.gpu_offload, found.system_info) == (("CPU",), False, "AVX2 = 1")


async def test_a_library_that_cannot_be_loaded_says_why() -> None:
    source = "import sys; sys.exit('libcuda.so.1: cannot open shared object file')"
    assert "libcuda.so.1: cannot open shared object file" in await failure(source)


async def test_a_library_that_aborts_is_told_as_such() -> None:
    assert "SIGABRT" in await failure("import os; os.abort()")


async def test_nonsense_is_no_answer() -> None:
    assert "exited with status 0" in await failure("print('hello')")


async def test_a_library_that_hangs_is_given_up() -> None:
    assert "did not answer" in await failure("import time; time.sleep(60)", timeout_s=0.3)
